"""``drc-deploy prune``."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click

from drc_deploy.cli.options import announce_results, emit
from drc_deploy.cli.pruning_options import (
    TargetChoice,
    chosen_targets,
    dual_weight_option,
    gamma_option,
    refit_option,
    target_images_option,
)
from drc_deploy.cli.training_options import Sampling, check_not_replaced, option, output_options, sampling_options
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.train.pruning.prune_options import PruneMethod


@click.command()
@click.argument("checkpoint")
@click.option(
    "--widths",
    "widths_path",
    required=True,
    type=click.Path(path_type=Path),
    help="A .widths.json, or a text file with one integer a line.",
)
@option("--batches", default=4, help="Batches per pass (authors' code: 10).")
@option("--channels-per-step", default=4, help="Channels per pass (paper: 1).")
@option(
    "--method",
    type=click.Choice(get_args(PruneMethod)),
    default="drc",
    help="The paper's pruning, or another from its comparison.",
)
@gamma_option
@dual_weight_option
@refit_option
@target_images_option
@sampling_options
@output_options(CHECKPOINT_SUFFIX)
def command(
    checkpoint: str,
    widths_path: Path,
    target_images: TargetChoice,
    sampling: Sampling,
    output: Path | None,
    workdir: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Prune CHECKPOINT down to given widths: channels are removed from the weights.

    After Ctrl-C, the same command continues with the next layer.
    """
    from drc_deploy.checkpoint import read_prunable
    from drc_deploy.locate import find_checkpoint
    from drc_deploy.train.loop.state import is_unfinished
    from drc_deploy.train.pruning.prune import prune_file
    from drc_deploy.train.pruning.prune_options import PruneOptions
    from drc_deploy.train.pruning.pruning import check_widths
    from drc_deploy.widths import WIDTHS_SUFFIX, read_widths

    options = PruneOptions(**sampling.patches, **how)
    parent = read_prunable(find_checkpoint(checkpoint, workdir), sampling.patch)
    info = parent.info
    network = parent.checkpoint.build_network()
    layers = [layer.name for layer in network.prunable_layers]
    widths = read_widths(widths_path, model=info.model, scale=info.scale, layers=layers)
    check_widths(network, widths)
    output = output or workdir / f"{widths_path.name.removesuffix(WIDTHS_SUFFIX)}_pruned.safetensors"
    check_not_replaced(parent.path, output)
    announce_results(output, workdir=workdir, goes_on=is_unfinished(output, "prune") and not sampling.restart)
    photographs = sampling.read_photographs(info.scale, parent.checkpoint.provenance)
    targets = chosen_targets(target_images, parent, photographs, sampling.patch)
    options = dataclasses.replace(options, target_images=targets)
    result = prune_file(parent, widths, photographs, options, output, restart=sampling.restart)
    params = result.build_network().parameter_count
    emit(
        {"checkpoint": str(output), "widths": list(widths), "params_before": info.params, "params": params},
        as_json=as_json,
        text=f"{info.params:,} -> {params:,} parameters\nWrote {output}\nNext: drc-deploy finetune {output}",
    )
