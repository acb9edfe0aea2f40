"""``drc-deploy finetune``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from drc_deploy.cli import training_options as training
from drc_deploy.cli.config import config_option, config_text
from drc_deploy.locate import CHECKPOINT_SUFFIX


@click.command()
@config_option
@click.argument("checkpoint")
@click.option("--teacher", help="A checkpoint, usually a larger one; training follows its last features.")
@click.option(
    "--follow", help="A checkpoint, usually the unpruned one; its images are the targets, instead of the photographs."
)
@click.option("--distillation-weight", type=float, help="Weight of the teacher in the loss.  [default: 1]")
@training.loop_options
@training.sampling_options
@training.benchmark_option
@training.output_options(CHECKPOINT_SUFFIX)
def command(
    checkpoint: str,
    teacher: str | None,
    follow: str | None,
    distillation_weight: float | None,
    sampling: training.Sampling,
    benchmark_folders: tuple[Path, ...],
    output: Path | None,
    workdir: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Train CHECKPOINT further, pruned or not, with dual regression.

    After Ctrl-C or SIGTERM the same command continues and nothing is lost. After a kill, at most --save-every seconds
    are lost.
    """
    from drc_deploy.checkpoint import read_trainable
    from drc_deploy.locate import find_checkpoint
    from drc_deploy.train.loop.benchmark_psnr import find_benchmarks
    from drc_deploy.train.loop.distillation import load_teacher
    from drc_deploy.train.loop.distributed import process_group
    from drc_deploy.train.loop.training import following, start_from_checkpoint

    if distillation_weight is not None and not teacher:
        raise click.UsageError("--distillation-weight needs --teacher.")
    options = sampling.take_train_options(how)
    path = find_checkpoint(checkpoint, workdir)
    output = output or workdir / f"{path.stem.removesuffix('_pruned')}_finetuned.safetensors"
    training.check_not_cleared(path, output)
    parent = read_trainable(path, sampling.patch)
    options = training.with_duals_of(parent, options)
    with process_group():
        start = start_from_checkpoint(parent, options)
        scale = start.network.scale
        if follow:
            leader = find_checkpoint(follow, workdir)
            training.check_not_cleared(leader, output)
            start = following(start, read_trainable(leader, sampling.patch))
        if teacher:
            weight = 1.0 if distillation_weight is None else distillation_weight
            leader = find_checkpoint(teacher, workdir)
            training.check_not_cleared(leader, output)
            start = replace(
                start, teacher=load_teacher(read_trainable(leader, sampling.patch), scale=scale, weight=weight)
            )
        benchmarks, config = find_benchmarks(benchmark_folders, scale), config_text(click.get_current_context())
        then = f"drc-deploy export {output}"
        training.train_and_report(
            start,
            options,
            sampling,
            benchmarks,
            output,
            workdir=workdir,
            config=config,
            as_json=as_json,
            then=then,
            **how,
        )
