"""Images to files: which format can hold what, and writing that leaves a whole file or none."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.files import atomic_path
from drc_deploy.png_stream import Layout, PngStream

MAX_WHOLE_PIXELS = 10**9
"""Formats other than PNG are held in memory whole, up to this many pixels."""

_USE_PNG = "Write a .png instead."


@dataclass(frozen=True, slots=True)
class _Format:
    """What a file format can hold, and how Pillow is asked to write it."""

    name: str
    max_side: int
    deep: bool = False
    """Whether it holds 16 bits a sample."""
    alpha: bool = False
    profile: bool = True
    """Whether it holds a colour profile."""
    options: dict[str, Any] = field(default_factory=dict)


_PNG = _Format("PNG", max_side=2**31 - 1, deep=True, alpha=True)
_JPEG = _Format("JPEG", max_side=65500, options={"quality": 95, "subsampling": "4:4:4"})
_TIFF = _Format("TIFF", max_side=2**31 - 1, deep=True, alpha=True, options={"compression": "tiff_lzw"})
_FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _Format("WebP", max_side=16383, alpha=True, options={"quality": 95}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Format("BMP", max_side=2**31 - 1, profile=False),
}


def check_output(path: Path, layout: Layout, *, with_profile: bool = False) -> None:
    """Find out before computing whether the format of ``path`` can hold the image.

    Raises:
        UsageError: the suffix is of no format that can be written.
        OutputError: the format cannot hold the depth, the alpha, the profile or the size.
    """
    kind = _format_of(path)
    for missing, what in (
        (layout.bits > 8 and not kind.deep, "16-bit samples"),
        (layout.has_alpha and not kind.alpha, "transparency"),
        (with_profile and not kind.profile, "a colour profile"),
        (with_profile and kind is _TIFF and layout.bits > 8, "a colour profile beside 16-bit samples"),
        (max(layout.height, layout.width) > kind.max_side, f"{layout.width}x{layout.height} pixels"),
    ):
        if missing:
            raise OutputError(f"{path}: {kind.name} files written here cannot hold {what}.", _USE_PNG)
    if kind is not _PNG and layout.height * layout.width > MAX_WHOLE_PIXELS:
        raise OutputError(
            f"{path}: {layout.width}x{layout.height} pixels are too many to write as {kind.name}.", _USE_PNG
        )


def write_image(path: Path, strips: Iterable[NDArray[Any]], layout: Layout, icc_profile: bytes | None = None) -> None:
    """Write an image that comes in strips of rows; a PNG is never in memory whole.

    Args:
        path: the suffix decides the format.
        strips: (rows, W) or (rows, W, channels), from top to bottom.
        layout: what the strips add up to.
        icc_profile: colour profile to embed.

    Raises:
        OutputError: the format cannot hold the image, the folder is not writable, or the disk is full.
    """
    check_output(path, layout, with_profile=icc_profile is not None)
    kind = _format_of(path)
    with atomic_path(path) as temporary:
        if kind is _PNG:
            _write_png(temporary, strips, layout, icc_profile)
        elif layout.bits > 8:
            _write_deep(temporary, np.concatenate(list(strips)))
        else:
            _write_whole(temporary, np.concatenate(list(strips)), kind, icc_profile)


def _format_of(path: Path) -> _Format:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path} does not say which format to write.", f"End it in one of {', '.join(_FORMATS)}."
        ) from None


def _write_png(path: Path, strips: Iterable[NDArray[Any]], layout: Layout, icc_profile: bytes | None) -> None:
    with path.open("wb") as stream:
        png = PngStream(stream, layout, icc_profile)
        for strip in strips:
            png.write(strip)
        png.finish()


def _write_deep(path: Path, pixels: NDArray[Any]) -> None:
    """Write 16-bit TIFF, which Pillow cannot."""
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = np.ascontiguousarray(pixels[:, :, order])
    _, encoded = cv2.imencode(path.suffix, pixels)
    path.write_bytes(encoded.tobytes())


def _write_whole(path: Path, pixels: NDArray[Any], kind: _Format, icc_profile: bytes | None) -> None:
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)
    image.save(path, format=kind.name, icc_profile=icc_profile, **kind.options)
