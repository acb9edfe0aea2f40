import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import decode_image

CODESTREAM, TILE_PART = b"\xff\x4f\xff\x51", b"\xff\x90\x00\x0a"
KINDS: dict[str, dict[str, Any]] = {
    "one tile": {"no_jp2": True},
    "tiles": {"tile_size": (32, 32), "no_jp2": True},
    "tiles in boxes": {"tile_size": (32, 32)},
    "tiles that begin outside": {"tile_size": (32, 32), "tile_offset": (5, 7), "offset": (9, 8), "no_jp2": True},
    "in layers": {"tile_size": (40, 40), "quality_layers": [20, 5], "progression": "RPCL", "no_jp2": True},
}
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def jpeg_2000(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG2000", **KINDS[kind])
    return stream.getvalue()


def starts(content: bytes) -> list[int]:
    """Return where parts of tiles begin, by their lengths."""
    position, found = content.index(TILE_PART), []
    while content[position : position + 4] == TILE_PART:
        found.append(position)
        position += struct.unpack_from(">I", content, position + 6)[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_whole_ones_are_read(kind: str) -> None:
    pixels = decode_image(jpeg_2000(kind), "x").pixels
    assert pixels.shape == PIXELS.shape
    assert np.array_equal(pixels, PIXELS) or kind == "in layers"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "more"), [(8, 64), (12, 64)])
def test_a_size_that_needs_more_tiles_is_refused(kind: str, side: int, more: int) -> None:
    content = bytearray(jpeg_2000(kind))
    at = content.index(CODESTREAM) + side
    (value,) = struct.unpack_from(">I", content, at)
    struct.pack_into(">I", content, at, value + more)
    with pytest.raises(ImageError, match=r"it has \d+ of the \d+ tiles that its size needs"):
        decode_image(bytes(content), "x")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "one tile"])
@pytest.mark.parametrize("lost", [0, 3, -1])
def test_a_lost_tile_is_found(kind: str, lost: int) -> None:
    content = jpeg_2000(kind)
    positions = [*starts(content), len(content) - 2]
    lost %= len(positions) - 1
    with pytest.raises(ImageError, match="tiles that its size needs"):
        decode_image(content[: positions[lost]] + content[positions[lost + 1] :], "x")


def test_a_lost_part_of_a_tile_is_found() -> None:
    content = bytearray(jpeg_2000("tiles"))
    content[starts(bytes(content))[2] + 11] = 2  # of two parts, that tile has one
    with pytest.raises(ImageError, match="parts of its tiles are missing"):
        decode_image(bytes(content), "x")
