"""Animations to files: GIF, APNG and animated WebP, whole ones or none.

They are written part by part, so that only the picture at hand and the one before are held. A part holds the smallest
rectangle that changed. A picture that is equal to the one before becomes a part of one pixel, and keeps its time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import replace as with_changes
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import OutputError
from drc_deploy.files import atomic_path
from drc_deploy.images.animation.apng import ApngWriter
from drc_deploy.images.animation.gif import GifWriter
from drc_deploy.images.animation.parts import AnimationFrame, AnimationWriter, Head
from drc_deploy.images.animation.webp import WebpWriter
from drc_deploy.images.formats import (
    Format,
    Saving,
    check_output,
    format_of,
    profile_in,
    writing_bytes,
)
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.writing import pillow_options

_WRITERS: dict[str, type[AnimationWriter]] = {"GIF": GifWriter, "PNG": ApngWriter, "WebP": WebpWriter}
"""By the name of the format."""
_HELD_PICTURES = 6
"""The picture at hand, the one before, what is compared, the part that is cut out, and that encoded twice."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file of an animation is to hold."""

    layout: Layout
    """Of each frame: 3 or 4 channels of 8 bits."""
    durations: tuple[Fraction, ...]
    """Seconds, of each frame."""
    plays: int
    """How often it is shown; 0 is for ever."""
    metadata: Metadata


def check_animation(path: Path, content: Content, saving: Saving) -> None:
    """Check, before computing, that the format of ``path`` can hold the animation.

    Raises:
        UsageError: the suffix is of no format that can be written.
        OutputError: the format cannot hold the colours, the size or the times.
    """
    check_output(path, content.layout, content.metadata, saving)
    kind, longest = format_of(path), max(content.durations)
    most = _WRITERS[kind.name].longest
    if longest > most:
        raise OutputError(
            f"{path}: a frame is shown for {float(longest):.0f} s, and {kind.name} files hold {float(most):.0f} s.",
            "Write a .png, or a video.",
        )


def writing_animation_bytes(path: Path, layout: Layout, saving: Saving) -> int:
    """Predict how much memory writing takes.

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    frame = layout.height * layout.width * layout.channels
    return _HELD_PICTURES * frame + writing_bytes(path, layout, None, saving)


def write_animation(
    path: Path,
    frames: Iterable[AnimationFrame],
    content: Content,
    *,
    saving: Saving,
    replace: bool,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write an animation; the suffix of ``path`` decides its format.

    Args:
        path: of the file.
        frames: RGB or RGBA, as ``content`` says.
        content: what they add up to.
        saving: as for ``write_image``.
        replace: whether the file may take the place of one that is there by the time it is written.
        check: called when everything is written, before the file appears; what it raises prevents that.

    Raises:
        OutputError: the format cannot hold the animation, a file is in the way, the folder is not writable, or the
            disk is full.
    """
    check_animation(path, content, saving)
    kind = format_of(path)
    with atomic_path(path, replace=replace) as temporary:
        with temporary.open("wb") as stream:
            _write_parts(_writer(stream, kind, content, saving), frames)
        check()


def _writer(stream: BinaryIO, kind: Format, content: Content, saving: Saving) -> AnimationWriter:
    profile = profile_in(content.metadata, content.layout, kind)
    metadata = with_changes(content.metadata, icc_profile=profile)
    options = pillow_options(kind, Metadata(), saving, None)
    return _WRITERS[kind.name](stream, content.layout, Head(len(content.durations), content.plays, metadata, options))


def _write_parts(writer: AnimationWriter, frames: Iterable[AnimationFrame]) -> None:
    before: NDArray[Any] | None = None
    for pixels, duration in frames:
        x, y, patch = 0, 0, pixels
        if before is not None and not writer.whole:
            x, y, patch = _changed(before, pixels, writer.grid)
        writer.add(patch, x, y, duration)
        before = pixels
    writer.finish()


def _changed(before: NDArray[Any], now: NDArray[Any], grid: int) -> tuple[int, int, NDArray[Any]]:
    """Return the smallest part of ``now`` that differs, of one pixel at least, and where it lies on a ``grid``."""
    differs = (before != now).any(axis=2)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return 0, 0, now[:1, :1]
    x, y = int(columns[0]) // grid * grid, int(rows[0]) // grid * grid
    return x, y, np.ascontiguousarray(now[y : rows[-1] + 1, x : columns[-1] + 1])
