"""Files that are damaged at random: each is refused, or read as a second decoder reads it."""

import io
import logging
import random
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import decode_image

COPIES = 100
"""Damaged copies of each file."""
ROWS, COLUMNS = np.mgrid[:40, :48]
PIXELS = np.stack([5 * ROWS, 4 * COLUMNS, ROWS * COLUMNS % 256], axis=2).astype(np.uint8)
NUMBERS = (0, 1, 2, 41, 65, 640, 20_000, 2**16, 2**31 - 1)
"""What a size or an offset may become."""


def saved(kind: str, pixels: NDArray[Any] = PIXELS, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb", metadata=None, **options)
    return stream.getvalue()


DEEP = PIXELS.astype(np.uint16) * 250 + 7
WITH_CHECKSUMS = {
    "png": saved("PNG"),
    "png of 16 bits": bytes(cv2.imencode(".png", DEEP)[1]),
    "png in grey": saved("PNG", PIXELS[:, :, 0]),
}
WITHOUT = {
    "jpeg": saved("JPEG"),
    "progressive jpeg": saved("JPEG", progressive=True),
    "jpeg with restarts": saved("JPEG", restart_marker_blocks=2),
    "bmp": saved("BMP"),
    "webp": saved("WEBP"),
    "lossless webp": saved("WEBP", lossless=True),
    "tiff": tiff(PIXELS, rowsperstrip=8),
    "tiff of 16 bits": tiff(DEEP, rowsperstrip=8),
    "tiff in tiles": tiff(PIXELS, tile=(16, 16)),
    "tiff with planes": tiff(PIXELS.transpose(2, 0, 1).copy(), planarconfig="separate", rowsperstrip=8),
    "big tiff": tiff(PIXELS, rowsperstrip=8, bigtiff=True),
    "tiff with checksums": tiff(PIXELS, rowsperstrip=8, compression="zlib"),
    "tiff of 16 bits with checksums": tiff(DEEP, tile=(16, 16), compression="zlib", predictor=True),
}


@pytest.fixture
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the second decoder says of damage out of the log."""
    monkeypatch.setattr(logging.getLogger("tifffile"), "disabled", True)


def flipped(content: bytearray, at: int, chance: random.Random) -> None:
    content[at] ^= 1 << chance.randrange(8)


def overwritten(content: bytearray, at: int, chance: random.Random) -> None:
    size = len(content[at : at + chance.choice((1, 4, 40, 400))])
    content[at : at + size] = bytes(size)


def cut(content: bytearray, at: int, _: random.Random) -> None:
    del content[at:]


def shortened(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at : at + chance.choice((1, 5, 100))]


def lengthened(content: bytearray, at: int, chance: random.Random) -> None:
    content[at:at] = content[at : at + chance.choice((1, 7, 30))]


def with_another_number(content: bytearray, at: int, chance: random.Random) -> None:
    """Change a number near the beginning, or near the end, where a TIFF may have its sizes."""
    at = at % 200 if chance.random() < 0.7 else -8 - at % 200
    at %= len(content) - 4
    content[at : at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(NUMBERS))


DAMAGE: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    flipped,
    overwritten,
    cut,
    shortened,
    lengthened,
    with_another_number,
)


def damaged(content: bytes, seed: int) -> bytes:
    chance, copy = random.Random(seed), bytearray(content)
    chance.choice(DAMAGE)(copy, chance.randrange(len(copy)), chance)
    return bytes(copy)


def read(content: bytes) -> NDArray[Any] | None:
    """Return what is read; None where it is refused."""
    try:
        return decode_image(content, "x").pixels
    except ImageError:
        return None


@pytest.mark.parametrize("name", WITH_CHECKSUMS)
def test_files_with_checksums_are_read_exactly_or_refused(name: str) -> None:
    whole = WITH_CHECKSUMS[name]
    expected = read(whole)
    copies = [read(damaged(whole, seed)) for seed in range(COPIES)]
    assert all(np.array_equal(copy, expected) for copy in copies if copy is not None and expected is not None)
    assert sum(copy is None for copy in copies) > COPIES * 2 // 3


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.usefixtures("_silent")
def test_others_are_read_as_a_second_decoder_reads_them_or_refused(name: str) -> None:
    whole = WITHOUT[name]
    second = by_tifffile if "tiff" in name else by_opencv
    expected = second(whole)
    assert is_one_of(read(whole), [expected])
    for seed in range(COPIES):
        content = damaged(whole, seed)
        pixels = read(content)
        assert pixels is None or is_one_of(pixels, [expected, second(content)]), seed


def is_one_of(pixels: NDArray[Any] | None, known: list[NDArray[Any] | None]) -> bool:
    return pixels is not None and any(one is not None and np.array_equal(pixels, one) for one in known)


def by_opencv(content: bytes) -> NDArray[Any] | None:
    decoded: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim == 2:
        return None if decoded is None else np.asarray(decoded)
    return np.asarray(decoded[:, :, [2, 1, 0, 3][: decoded.shape[2]]])


def by_tifffile(content: bytes) -> NDArray[Any] | None:
    """Return the pixels of a TIFF in the layout of this package, by tifffile and numpy."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages.first
        pixels: NDArray[Any] = page.asarray()
    return np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 and pixels.ndim == 3 else pixels
