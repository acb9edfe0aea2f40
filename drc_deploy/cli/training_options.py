"""Options that the commands of the training stage share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc_deploy.locate import SAMPLES

if TYPE_CHECKING:
    from drc_deploy.train.data import Photographs


@dataclass(frozen=True, slots=True)
class Sampling:
    """What every stage of training is fed with, and whether it goes on with unfinished work."""

    data: Path | None
    """Folder of photographs; None means those that ship with the package."""
    batch: int
    patch: int
    """Side of a patch in LR pixels."""
    seed: int
    restart: bool

    def read_photographs(self, scale: int) -> "Photographs":
        """Load the photographs; tell on standard error which were left out, or that the shipped ones are used."""
        from drc_deploy.train.data import load_photographs

        if self.data is None:
            click.echo(
                "No --data: using the few photographs that ship with drc-deploy. Give more for good results.",
                err=True,
            )
        photographs = load_photographs(self.data or SAMPLES, scale, self.patch)
        for reason in photographs.skipped:
            click.echo(f"Skipped: {reason}", err=True)
        return photographs


SAMPLING_OPTIONS = (
    click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Folder of photographs to train on. Without it, the few that ship with the package.",
    ),
    click.option("--batch", type=int, default=16, show_default=True, help="Patches per step."),
    click.option("--patch", type=int, default=24, show_default=True, help="Side of a patch in LR pixels (paper: 48)."),
    click.option("--seed", type=int, default=1, show_default=True),
    click.option("--restart", is_flag=True, help="Begin anew instead of going on with unfinished work."),
)

benchmark_option = click.option(
    "--eval",
    "benchmark_folders",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Benchmark set (HR/ and LRx4/) whose PSNR goes into the checkpoint; repeat it for more sets.",
)


def output_option(suffix: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give -o/--output for a file that must end in ``suffix``: later commands know a file by it."""

    def check(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and not value.name.endswith(suffix):
            raise click.BadParameter(f"{value} must end in {suffix}.")
        return value

    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=check,
        help=f"File to write ({suffix}), instead of one in --workdir.",
    )


def sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of ``Sampling`` and hand them to the command as one argument, ``sampling``."""

    @functools.wraps(command)
    def with_sampling(data: Path | None, batch: int, patch: int, seed: int, restart: bool, **others: Any) -> None:
        command(sampling=Sampling(data, batch, patch, seed, restart), **others)

    result: Callable[..., None] = with_sampling
    for option in reversed(SAMPLING_OPTIONS):
        result = option(result)
    return result
