"""``drc-deploy ablate``."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click

from drc_deploy.cli.options import emit, json_option, workdir_option
from drc_deploy.cli.pruning_options import (
    Bound,
    ManyValues,
    TargetChoice,
    bound_options,
    chosen_targets,
    dual_weight_option,
    gamma_option,
    target_images_option,
)
from drc_deploy.cli.training_options import Sampling, benchmark_option, option, sampling_options
from drc_deploy.train.loop.run_options import TrainingPrecision


@click.command(cls=ManyValues)
@click.option("--model", "checkpoint", required=True, help="A shipped name, a name in --workdir, or a checkpoint.")
@option(
    "--ratio", "ratios", type=float, multiple=True, default=(0.3, 0.5, 0.7), help="Share to remove; one or several."
)
@option("--seeds", type=click.IntRange(min=1), default=3, help="Runs of every method.")
@click.option("--method", "methods", multiple=True, help="Only these methods; one or several.  [default: all]")
@option("--search-steps", default=200, help="Steps of the search (paper: 2500).")
@option("--prune-batches", default=4, help="Batches per pass (authors' code: 10).")
@option("--channels-per-step", default=4, help="Channels per pass (paper: 1).")
@option("--finetune-steps", default=300, help="Steps of fine-tuning (paper: 1000000).")
@option("--learning-rate", default=1e-4, help="Learning rate of fine-tuning.")
@option("--precision", type=click.Choice(get_args(TrainingPrecision)), default="fp32", help="Precision of fine-tuning.")
@gamma_option
@dual_weight_option
@target_images_option
@bound_options("madds")
@benchmark_option
@sampling_options
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder of the results.")
@workdir_option
@json_option
def command(
    checkpoint: str,
    ratios: tuple[float, ...],
    seeds: int,
    methods: tuple[str, ...],
    target_images: TargetChoice,
    bound: Bound,
    sampling: Sampling,
    benchmark_folders: tuple[Path, ...],
    output: Path | None,
    workdir: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Compare DRC with other pruning methods, on your network and data.

    The methods are those of the paper's comparison. All get the same bound and as many steps of fine-tuning. After a
    stop, the same command continues.
    """
    from drc_deploy.checkpoint import read_prunable
    from drc_deploy.checkpoint_info import WINDOWS
    from drc_deploy.files import write_text
    from drc_deploy.locate import find_trained_checkpoint
    from drc_deploy.train.compress import CompressInputs
    from drc_deploy.train.experiments.ablation import Ablation, AblationOptions, all_cells, find_variants
    from drc_deploy.train.experiments.ablation_tables import tables
    from drc_deploy.train.loop.benchmark_psnr import find_benchmarks
    from drc_deploy.train.search.search_file import check_bound
    from drc_deploy.train.search.search_options import RULES

    variants = find_variants(methods)
    if bound.target == "channels" and not methods:  # which the rule by cost is not for
        variants = tuple(variant for variant in variants if variant.name != "by-cost")
    options = AblationOptions(
        bound.target, bound.round_to, bound.cut, batch=sampling.batch, patch=sampling.patch, **how
    )
    wanted = all_cells(ratios, range(sampling.seed, sampling.seed + seeds), variants)
    stages = {cell: options.stages(cell) for cell in wanted}
    parent = read_prunable(find_trained_checkpoint(checkpoint, workdir), sampling.patch)
    info = parent.info
    if (info.foreign or info.model in WINDOWS) and not methods:
        click.echo("Without darts, which needs one convolution behind each layer; ask for it by --method.", err=True)
        stages = {cell: of_cell for cell, of_cell in stages.items() if cell.variant.name != "darts"}
    latency = bound.read_latency(info)
    for searched in {(cell.ratio, cell.variant.search in RULES): stages[cell].search for cell in stages}.values():
        check_bound(parent.checkpoint, searched, latency)
    benchmarks = find_benchmarks(benchmark_folders, info.scale)
    photographs = sampling.read_photographs(info.scale)
    inputs = CompressInputs(parent, photographs, benchmarks, latency)
    targets = chosen_targets(target_images, parent, photographs, sampling.patch)
    options = dataclasses.replace(options, target_images=targets)
    folder = output or workdir / f"{parent.path.stem}.ablation"
    ablation = Ablation(inputs, options, folder, restart=sampling.restart)
    cells = ablation.run(list(stages))
    text = tables(cells, options)
    write_text(folder / "tables.md", text)
    emit({"folder": str(folder), "cells": cells}, as_json=as_json, text=f"{text}\nWrote {folder / 'tables.md'}")
