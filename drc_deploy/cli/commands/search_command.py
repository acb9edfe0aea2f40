"""``drc-deploy search``."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click

from drc_deploy.cli.options import announce_results, emit
from drc_deploy.cli.pruning_options import (
    Bound,
    TargetChoice,
    asked_and_reached,
    bound_options,
    chosen_targets,
    dual_weight_option,
    importance_option,
    order_option,
    target_images_option,
    timed_here,
    times_text,
)
from drc_deploy.cli.training_options import Sampling, option, output_options, sampling_options
from drc_deploy.train.search.search_options import SearchMethod
from drc_deploy.widths import WIDTHS_SUFFIX


@click.command()
@click.argument("checkpoint")
@option("--ratio", default=0.3, help="Share to remove of what --target names.")
@option("--steps", default=200, help="Search steps (paper: 2500).")
@order_option()
@importance_option()
@option(
    "--method",
    type=click.Choice(get_args(SearchMethod)),
    default="drc",
    help="The paper's search, or another from its comparison.",
)
@dual_weight_option
@target_images_option
@bound_options()
@sampling_options
@output_options(WIDTHS_SUFFIX)
def command(
    checkpoint: str,
    target_images: TargetChoice,
    bound: Bound,
    sampling: Sampling,
    output: Path | None,
    workdir: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Search how many channels each layer of CHECKPOINT needs.

    A picture of the result is written next to the file.
    """
    from drc_deploy.checkpoint import read_prunable
    from drc_deploy.locate import find_checkpoint
    from drc_deploy.train.compress import compressed_name
    from drc_deploy.train.loop.state import is_unfinished
    from drc_deploy.train.search.search_file import SearchInputs, check_bound, search_file
    from drc_deploy.train.search.search_options import SearchOptions
    from drc_deploy.train.search.width_picture import draw_widths

    options = SearchOptions(**sampling.patches, target=bound.target, round_to=bound.round_to, cut=bound.cut, **how)
    parent = read_prunable(find_checkpoint(checkpoint, workdir), sampling.patch)
    info = parent.info
    latency = bound.read_latency(info)
    check_bound(parent.checkpoint, options, latency)
    output = output or workdir / f"{compressed_name(parent.path.stem, options.ratio)}{WIDTHS_SUFFIX}"
    picture = output.with_name(f"{output.name.removesuffix(WIDTHS_SUFFIX)}.widths.png")
    goes_on = is_unfinished(output, "search") and not sampling.restart
    announce_results(output, picture, workdir=workdir, goes_on=goes_on)
    photographs = sampling.read_photographs(info.scale, parent.checkpoint.provenance)
    targets = chosen_targets(target_images, parent, photographs, sampling.patch)
    options = dataclasses.replace(options, target_images=targets)
    inputs = SearchInputs(parent, photographs, latency)
    found = search_file(inputs, options, output, restart=sampling.restart)
    draw_widths(found, picture)
    timed = timed_here(found, latency) if latency else None
    lines = [
        f"Widths: {' '.join(map(str, found.widths))}",
        asked_and_reached(found),
        *([times_text(timed, latency)] if latency else []),
        f"Wrote {output} and {picture}",
        f"Next: drc-deploy prune {checkpoint} --widths {output}",
    ]
    emit(
        {"widths_file": str(output), "picture": str(picture), "timed_ms": timed, **dataclasses.asdict(found)},
        as_json=as_json,
        text="\n".join(lines),
    )
