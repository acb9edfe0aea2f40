"""Whether a TIFF holds the strips or tiles that its size needs (TIFF 6.0, pages 39 and 68).

Pillow leaves black what no strip covers, and OpenCV takes other bytes of the file for it.
"""

import io
import math
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_NOT_COMPRESSED, _SEPARATE_PLANES = 1, 2
_HEADER_BYTES = 8


class Segment(NamedTuple):
    """A strip or a tile."""

    offset: int
    """Where it stands in the file."""
    size: int
    """How many bytes it has there; 0 where the file leaves that open."""
    width: int
    height: int
    unpacked: int
    """How many bytes its samples take without compression; where pixels share samples, fewer."""


class _Layout(NamedTuple):
    """How the pixels of a TIFF are cut into segments."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    width: int
    """Of a segment, like ``height``."""
    height: int
    across: int
    """Segments in a row of them."""
    down: int
    tiled: bool


def check_strips(image: Image.Image, stream: BinaryIO) -> None:
    """Check that all strips or tiles of the first page of a TIFF are there, and hold their rows where not compressed.

    Args:
        image: the file in Pillow, not loaded yet.
        stream: the file.

    Raises:
        ValueError: one is missing or too short, or the file does not say whether 0 is black, where Pillow takes white.
    """
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _COLOURS not in tags:
        raise ValueError("it does not say whether 0 is black or white")
    end = stream.seek(0, io.SEEK_END)
    compressed = tags.get(_COMPRESSION, _NOT_COMPRESSED) != _NOT_COMPRESSED
    for number, segment in enumerate(segments(image)):
        needed = (segment.size or 1) if compressed else segment.unpacked
        short = 0 < segment.size < needed  # some programs leave the size open, or write too large ones
        if segment.offset < _HEADER_BYTES or short or segment.offset + needed > end:
            raise ValueError(f"its strip or tile {number} is missing or too short")


def segments(image: Image.Image) -> Iterator[Segment]:
    """Yield the strips or tiles of the first page of a TIFF in their order.

    Raises:
        ValueError: there are fewer than its size needs.
    """
    tags = image.tag_v2  # type: ignore[attr-defined]
    layout = _layout(tags)
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANAR) == _SEPARATE_PLANES else 1
    a_plane = layout.across * layout.down
    count, row_bytes = a_plane * planes, -(-layout.width * _bits_of_a_pixel(tags) // 8)
    if len(layout.offsets) < count or 0 < len(layout.sizes) < count:
        held = min(len(layout.offsets), len(layout.sizes) or count)
        raise ValueError(f"it has {held} of the {count} strips or tiles that its size needs")
    for number in range(count):
        above = number % a_plane // layout.across * layout.height
        height = layout.height if layout.tiled else min(layout.height, tags[_HEIGHT] - above)
        size = layout.sizes[number] if layout.sizes else 0
        yield Segment(layout.offsets[number], size, layout.width, height, height * row_bytes)


def _layout(tags: Any) -> _Layout:
    width, height = tags[_WIDTH], tags[_HEIGHT]
    tiled = _STRIP_OFFSETS not in tags  # as Pillow decides
    if tiled:
        across, down = tags[_TILE_WIDTH], tags[_TILE_HEIGHT]
        offsets, sizes = tags.get(_TILE_OFFSETS, ()), tags.get(_TILE_BYTES, ())
    else:
        across, down = width, min(tags.get(_STRIP_ROWS, height), height)
        offsets, sizes = tags[_STRIP_OFFSETS], tags.get(_STRIP_BYTES, ())
    if across < 1 or down < 1:
        raise ValueError(f"its strips or tiles have {across}x{down} pixels")
    return _Layout(offsets, sizes, across, down, math.ceil(width / across), math.ceil(height / down), tiled)


def _bits_of_a_pixel(tags: Any) -> int:
    """Return how many bits a pixel takes in a segment."""
    bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES, 1)
    if tags.get(_PLANAR) == _SEPARATE_PLANES:
        return int(max(bits))
    return int(sum(bits) if len(bits) == samples else bits[0] * samples)
