"""Animations made part by part, so that every disposal, place and transparency is what the test says."""

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from tests.core.images.png_files import chunk

PALETTE = ((0, 0, 0), (255, 255, 0), (0, 255, 255), (200, 100, 50))


class GifPart(NamedTuple):
    """A part of a GIF in the colours of ``PALETTE``."""

    numbers: NDArray[np.uint8]
    x: int = 0
    y: int = 0
    disposal: int = 0
    transparent: int | None = None
    ticks: int = 10


def write_gif(path: Path, width: int, height: int, parts: list[GifPart], loops: int | None = None) -> Path:
    """Write parts as they are, with a background colour that nobody should see."""
    out = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF0, 0, 0), bytes([9, 99, 199, 8, 8, 8])]
    if loops is not None:
        out.append(b"!\xff\x0bNETSCAPE2.0" + struct.pack("<BBHB", 3, 1, loops, 0))
    for part in parts:
        image = Image.fromarray(part.numbers)
        image.putpalette(bytes(np.array(PALETTE, np.uint8)))
        how: dict[str, Any] = {} if part.transparent is None else {"transparency": part.transparent}
        how |= {"duration": part.ticks * 10, "disposal": part.disposal, "include_color_table": True}
        out += GifImagePlugin.getdata(image, (part.x, part.y), **how)
    path.write_bytes(b"".join([*out, b";"]))
    return path


class PngPart(NamedTuple):
    """A part of an APNG."""

    pixels: NDArray[Any]
    """(h, w, 4) RGBA, (h, w, 3) RGB or (h, w) grey; uint8 or uint16."""
    x: int = 0
    y: int = 0
    disposal: int = 0
    over: int = 0
    delay: tuple[int, int] = (1, 10)


def write_apng(
    path: Path, width: int, height: int, parts: list[PngPart], *, plays: int = 0, default: NDArray[Any] | None = None
) -> Path:
    """Write parts as they are; ``default`` is an image that is no part of the animation."""
    first = parts[0].pixels
    colour_type = {1: 0, 3: 2, 4: 6}[first.shape[2] if first.ndim == 3 else 1]
    head = struct.pack(">IIBBBBB", width, height, first.itemsize * 8, colour_type, 0, 0, 0)
    out = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"acTL", struct.pack(">II", len(parts), plays))]
    if default is not None:
        out.append(chunk(b"IDAT", _packed(default)))
    number = 0
    for part in parts:
        size = part.pixels.shape[1], part.pixels.shape[0]
        control = struct.pack(">IIIIIHHBB", number, *size, part.x, part.y, *part.delay, part.disposal, part.over)
        out.append(chunk(b"fcTL", control))
        number += 1
        if len(out) == 4:
            out.append(chunk(b"IDAT", _packed(part.pixels)))
        else:
            out.append(chunk(b"fdAT", struct.pack(">I", number) + _packed(part.pixels)))
            number += 1
    path.write_bytes(b"".join([*out, chunk(b"IEND", b"")]))
    return path


def _packed(pixels: NDArray[Any]) -> bytes:
    samples = pixels.astype(pixels.dtype.newbyteorder(">"))
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))


def decoded_by_ffmpeg(path: Path) -> list[NDArray[np.uint8]]:
    """Return the frames as RGBA."""
    import av

    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgba")) for frame in container.decode(video=0)]


def seen(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """Return colours multiplied by alpha, and the alpha: what a viewer sees, whatever hides behind nothing."""
    rgba = pixels.astype(np.int64)
    if rgba.shape[2] == 3:
        rgba = np.dstack([rgba, np.full(rgba.shape[:2], 255)])
    return np.dstack([rgba[:, :, :3] * rgba[:, :, 3:] // 255, rgba[:, :, 3:]])
