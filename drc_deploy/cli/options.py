"""Options that several commands share, spelled and explained once."""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from drc_deploy.engine_info import CHECKPOINT_PRECISIONS
from drc_deploy.latency_table import LARGEST_SIDE
from drc_deploy.locate import hides_shipped
from drc_deploy.printing import say

_PARTS_AT_ONCE = 1 << 14
"""Of JSON: names, values and what is between them."""
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class ByteSize(click.ParamType[int]):
    """An amount of memory with its unit, such as ``1.5GiB``; the command gets bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read an amount."""
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) *([KMG]i?B)", str(value), re.ASCII | re.IGNORECASE)
        amount = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
        if amount < 1:
            self.fail(f"{value!r} is no amount of memory: give one such as 800MiB or 2GB.", param, ctx)
        return amount


workdir_option = click.option(
    "--workdir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("drc_runs"),
    show_default=True,
    help="Folder where results are written and looked for.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: each library's choice]"
)
precision_option = click.option(
    "--precision",
    type=click.Choice(CHECKPOINT_PRECISIONS),
    help="Precision of a checkpoint in torch; half is for GPUs. An exported file has its own.  [default: fp32]",
)
scale_option = click.option(
    "--scale", type=int, default=4, show_default=True, help="Upscaling factor that the model has."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


def size_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option --size HxW, the image size for latency; the command gets (height, width)."""

    def parse(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
        parts = value.lower().split("x")
        if len(parts) != 2 or not all(
            part.isascii() and part.isdigit() and 0 < int(part) <= LARGEST_SIDE for part in parts
        ):
            raise click.BadParameter("give height and width in LR pixels, such as 128x128.", context, parameter)
        return int(parts[0]), int(parts[1])

    return click.option(
        "--size",
        default=default,
        show_default=True,
        metavar="HxW",
        callback=parse,
        help="Size of the image that latency is measured on, in LR pixels.",
    )


def announce_results(*files: Path, workdir: Path, goes_on: bool = False) -> None:
    """Print on standard error, before a command begins, which files it replaces and which shipped names it takes.

    Args:
        files: The results.
        workdir: Where names are looked for.
        goes_on: Whether unfinished work is continued, which was announced when it began.
    """
    for file in () if goes_on else files:
        if file.exists():
            say(f"Replacing {file}.", err=True)
        elif hides_shipped(file, workdir):
            say(f"{file.stem} will mean {file}, no longer the network that ships with drc-deploy.", err=True)


def emit(result: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print the result: ``text`` for people, or ``result``, which may hold records, as one JSON object."""
    if not as_json:
        say(text)
        return
    parts = json.JSONEncoder(indent=2, default=dataclasses.asdict).iterencode(result)
    while piece := "".join(itertools.islice(parts, _PARTS_AT_ONCE)):  # of a million files, all would be gigabytes
        say(piece, nl=False)
    say("")
