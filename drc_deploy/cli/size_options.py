"""The options that say how large results are."""

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from drc_deploy.errors import UsageError
from drc_deploy.images.output_size import OutputSize


class _Frame(click.ParamType[tuple[int, int]]):
    """A width and a height in pixels, such as ``1920x1080``."""

    name = "frame"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})", str(value), re.ASCII | re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no frame: give width and height in pixels, such as 1920x1080.", param, ctx)
        return int(match[1]), int(match[2])


_OPTIONS = (
    click.option(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="Times as large as the image, such as 2 or 1.5.  [default: the engine's]",
    ),
    click.option("--width", type=click.IntRange(1), metavar="PIXELS", help="Width of results; the height follows."),
    click.option("--height", type=click.IntRange(1), metavar="PIXELS", help="Height of results; the width follows."),
    click.option("--max-side", type=click.IntRange(1), metavar="PIXELS", help="Largest side that results may have."),
    click.option("--fit", type=_Frame(), metavar="WxH", help="Frame that results fill in one direction and fit into."),
    click.option("--linear-light", is_flag=True, help="Reduce light instead of samples; for images in sRGB."),
)


def size_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets ``size``, an ``OutputSize``, and ``linear_light``."""

    @functools.wraps(command)
    def with_size(
        *,
        scale: float | None,
        width: int | None,
        height: int | None,
        max_side: int | None,
        fit: tuple[int, int] | None,
        linear_light: bool,
        **others: Any,
    ) -> None:
        size = OutputSize(scale, width, height, max_side, fit)
        if linear_light and size == OutputSize():
            raise UsageError("--linear-light is how results are reduced.", "Say to which size, as in --scale 2.")
        command(size=size, linear_light=linear_light, **others)

    for option in reversed(_OPTIONS):
        option(with_size)
    return with_size
