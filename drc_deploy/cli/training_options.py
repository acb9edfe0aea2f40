"""Options that the commands of the training stage share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from drc_deploy.locate import SAMPLES

if TYPE_CHECKING:
    from drc_deploy.train.data import Photographs

Function = TypeVar("Function", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of photographs to train on. Without it, the few that ship with the package.",
)
batch_option = click.option("--batch", type=int, default=16, show_default=True, help="Patches per step.")
patch_option = click.option(
    "--patch", type=int, default=24, show_default=True, help="Side of a patch in LR pixels (paper: 48)."
)
seed_option = click.option("--seed", type=int, default=1, show_default=True)
restart_option = click.option("--restart", is_flag=True, help="Begin anew instead of going on with unfinished work.")
benchmark_option = click.option(
    "--eval",
    "benchmark_folders",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Benchmark set (HR/ and LRx4/) whose PSNR goes into the checkpoint; repeat it for more sets.",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, instead of one in --workdir.",
)


def sampling_options(command: Function) -> Function:
    """Add --data, --batch, --patch, --seed and --restart."""
    for option in (restart_option, seed_option, patch_option, batch_option, data_option):
        command = option(command)
    return command


def read_photographs(data: Path | None, scale: int, patch: int) -> "Photographs":
    """Load training photographs and tell on standard error which were left out, or that the samples are used."""
    from drc_deploy.train.data import load_photographs

    if data is None:
        click.echo(
            "No --data: using the few photographs that ship with drc-deploy. Give more for good results.",
            err=True,
        )
    photographs = load_photographs(data or SAMPLES, scale, patch)
    for reason in photographs.skipped:
        click.echo(f"Skipped: {reason}", err=True)
    return photographs
