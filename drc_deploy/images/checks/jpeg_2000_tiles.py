"""Whether a JPEG 2000 holds the tiles that its size needs: OpenJPEG leaves others black (ISO 15444-1, A.4 and A.5)."""

import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from drc_deploy.images.boxes import SIZE_MARKER

_SIZES = struct.Struct(">8I")
"""Right and lower end of the image, left and upper; width and height of a tile; left and upper end of the first."""
_SIZES_OFFSET = 8
_TILE_PART, _END = 0xFF90, 0xFFD9
_MARKER = struct.Struct(">HH")
_TILE_PART_HEAD = struct.Struct(">HHHIBB")
"""Marker, length of this head, number of the tile, length of the part or 0, number of the part, count of parts or 0."""


class _TilePart(NamedTuple):
    tile: int
    parts: int
    """How many its tile has; 0 where this part does not say."""


def check_jpeg_2000(stream: BinaryIO) -> None:
    """Check that every tile is there, with all of its parts.

    Raises:
        ValueError: one is missing.
    """
    stream.seek(0)
    content = stream.read()
    start = content.find(SIZE_MARKER)
    if start < 0 or start + _SIZES_OFFSET + _SIZES.size > len(content):
        return  # decoding it fails
    needed = _tile_count(content, start + _SIZES_OFFSET)
    parts = list(_tile_parts(content, start + 2))
    found = Counter(part.tile for part in parts)
    if len(found) < needed:
        raise ValueError(f"it has {len(found)} of the {needed} tiles that its size needs")
    if any(found[part.tile] < part.parts for part in parts):
        raise ValueError("parts of its tiles are missing")


def _tile_count(content: bytes, position: int) -> int:
    """Return how many tiles the sizes at ``position`` ask for; 0 where they make no sense."""
    right, bottom, _, _, width, height, left, top = _SIZES.unpack_from(content, position)
    return -(-(right - left) // width) * -(-(bottom - top) // height) if width and height else 0


def _tile_parts(content: bytes, position: int) -> Iterator[_TilePart]:
    """Yield the parts of tiles that begin in a file; ``position`` is that of a marker before the first."""
    while position + _TILE_PART_HEAD.size <= len(content):
        marker, length = _MARKER.unpack_from(content, position)
        if marker == _END:
            return
        if marker == _TILE_PART:
            _, _, tile, size, _, count = _TILE_PART_HEAD.unpack_from(content, position)
            yield _TilePart(tile, count)
            if not size:  # it is the last one, up to the end
                return
            position += size
        else:
            position += 2 + length
