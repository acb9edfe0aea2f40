"""``drc-deploy finetune``."""

from pathlib import Path

import click

from drc_deploy.cli.options import emit, json_option, workdir_option
from drc_deploy.cli.training_options import Sampling, benchmark_option, output_option, sampling_options
from drc_deploy.locate import CHECKPOINT_SUFFIX


@click.command()
@click.argument("checkpoint")
@click.option("--steps", type=int, default=1000, show_default=True, help="Updates (the paper's recipe: 1000000).")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True)
@click.option("--dual-weight", type=float, default=0.1, show_default=True, help="Lambda; 0 trains without duals.")
@benchmark_option
@sampling_options
@output_option(CHECKPOINT_SUFFIX)
@workdir_option
@json_option
def command(
    checkpoint: str,
    steps: int,
    learning_rate: float,
    dual_weight: float,
    benchmark_folders: tuple[Path, ...],
    sampling: Sampling,
    output: Path | None,
    workdir: Path,
    as_json: bool,
) -> None:
    """Go on training CHECKPOINT, pruned or not, with dual regression.

    Ctrl-C keeps the state; the same command goes on where it stopped.
    """
    from drc_deploy.checkpoint_info import read_checkpoint_info
    from drc_deploy.locate import find_checkpoint
    from drc_deploy.train.evaluation import find_benchmarks
    from drc_deploy.train.loop import TrainOptions
    from drc_deploy.train.training import finetune

    options = TrainOptions(
        steps, sampling.batch, sampling.patch, learning_rate=learning_rate, dual_weight=dual_weight, seed=sampling.seed
    )
    parent = find_checkpoint(checkpoint, workdir)
    output = output or workdir / f"{parent.stem.removesuffix('_pruned')}_finetuned.safetensors"
    scale = read_checkpoint_info(parent).scale
    benchmarks = find_benchmarks(benchmark_folders, scale)
    photographs = sampling.read_photographs(scale)
    result = finetune(parent, photographs, options, output, benchmarks=benchmarks, restart=sampling.restart)
    emit(
        {"checkpoint": str(output), **result.provenance},
        as_json=as_json,
        text=f"Wrote {output}\nNext: drc-deploy export {output}",
    )
