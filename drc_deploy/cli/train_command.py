"""``drc-deploy train``."""

from pathlib import Path

import click

from drc_deploy.cli.config import config_option, config_text
from drc_deploy.cli.options import json_option, scale_option, workdir_option
from drc_deploy.cli.training_options import (
    Loop,
    Sampling,
    benchmark_option,
    check_not_cleared,
    loop_options,
    output_option,
    sampling_options,
    train_and_report,
)
from drc_deploy.locate import CHECKPOINT_SUFFIX


@click.command()
@config_option
@click.option("--model", required=True, help="Architecture: drn_xs, drn_s or drn_l.")
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
@loop_options
@sampling_options
@benchmark_option
@output_option(CHECKPOINT_SUFFIX)
@workdir_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: str,
    scale: int,
    initial: Path | None,
    initial_duals: Path | None,
    loop: Loop,
    sampling: Sampling,
    benchmark_folders: tuple[Path, ...],
    output: Path | None,
    workdir: Path,
    as_json: bool,
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

    options = loop.train_options(sampling)
    check_scale(model, scale)
    if initial_duals and not initial:
        raise click.UsageError("--init-duals needs --init, the weights that the duals belong to.")
    spec = ModelSpec(model, scale)
    output = output or workdir / f"{model}{'' if scale == 4 else f'_x{scale}'}.safetensors"
    if initial:
        check_not_cleared(initial, output)
    with process_group():
        benchmarks = find_benchmarks(benchmark_folders, scale)
        if initial:
            start, report = start_from_weights(spec, options, initial, initial_duals)
            click.echo(report.listing if is_main() else "", err=True, nl=is_main())
        else:
            start = fresh_start(spec, options)
        then, config = f"drc-deploy compress --model {output}", config_text(context)
        train_and_report(start, loop, sampling, benchmarks, output, config=config, as_json=as_json, then=then)
