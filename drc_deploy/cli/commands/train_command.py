"""``drc-deploy train``."""

from pathlib import Path
from typing import Any

import click

from drc_deploy.cli import training_options as training
from drc_deploy.cli.config import config_option, config_text
from drc_deploy.cli.options import scale_option
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.printing import say


@click.command()
@config_option
@click.option("--model", required=True, help="Architecture, as `drc-deploy models` lists them.")
@scale_option
@click.option(
    "--init",
    "initial",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Checkpoint or .pt file to start from; weights are taken where name and shape fit.",
)
@click.option(
    "--init-duals",
    "initial_duals",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The authors' file of dual networks that belongs to an --init .pt file.",
)
@training.loop_options
@training.sampling_options
@training.benchmark_option
@training.output_options(CHECKPOINT_SUFFIX)
def command(
    model: str,
    scale: int,
    initial: Path | None,
    initial_duals: Path | None,
    sampling: training.Sampling,
    benchmark_folders: tuple[Path, ...],
    output: Path | None,
    workdir: Path,
    as_json: bool,
    **how: Any,
) -> None:
    """Train a network with dual regression.

    After Ctrl-C or SIGTERM the same command continues and nothing is lost. After a kill, at most --save-every seconds
    are lost. Start it with torchrun to use several GPUs.
    """
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.models.registry import check_scale
    from drc_deploy.train.loop.benchmark_psnr import find_benchmarks
    from drc_deploy.train.loop.distributed import is_main, process_group
    from drc_deploy.train.loop.training import fresh_start, start_from_weights

    options = sampling.take_train_options(how)
    check_scale(model, scale)
    if initial_duals and not initial:
        raise click.UsageError("--init-duals needs --init, the weights that the duals belong to.")
    spec = ModelSpec(model, scale)
    output = output or workdir / f"{model}{'' if scale == 4 else f'_x{scale}'}.safetensors"
    if initial:
        training.check_not_cleared(initial, output)
    options = training.with_duals_of(spec, options)
    with process_group():
        benchmarks = find_benchmarks(benchmark_folders, scale)
        if initial:
            start, report = start_from_weights(spec, options, initial, initial_duals)
            say(report.listing if is_main() else "", err=True, nl=is_main())
        else:
            start = fresh_start(spec, options)
        then, config = f"drc-deploy compress --model {output}", config_text(click.get_current_context())
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
