import io
import struct
import zlib
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.checks import checksums
from drc_deploy.images.reading import decode_image
from tests.core.images.png_files import HEAD_BYTES, chunk


def noise(bits: int) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 2**bits, (20, 30, 3)).astype(f"uint{bits}")


def unfiltered(pixels: NDArray[Any]) -> bytes:
    """Return rows of (H, W, channels) as a PNG stores them, behind a zero each for no filter."""
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(len(pixels), -1).view(np.uint8)
    return np.insert(rows, 0, 0, axis=1).tobytes()


def png(
    pixels: NDArray[Any],
    *,
    rows: bytes = b"",
    interlaced: int = 0,
    pieces: int = 1,
    adler: bytes = b"",
    left_out: int = 0,
) -> bytes:
    """Return a PNG by its specification, whose compressed rows lie in some chunks, perhaps with another checksum."""
    height, width, channels = pixels.shape
    packed = zlib.compress(rows or unfiltered(pixels))
    packed = packed[:-4] + adler if adler else packed
    packed = packed[: len(packed) - left_out]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, interlaced)
    size = -(-len(packed) // pieces)
    data = b"".join(chunk(b"IDAT", packed[start : start + size]) for start in range(0, len(packed), size))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pieces", [1, 2, 7, 500])
def test_pixels_in_any_number_of_chunks_are_read(bits: int, pieces: int) -> None:
    assert np.array_equal(decode_image(png(noise(bits), pieces=pieces), "x").pixels, noise(bits))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adler": b"none"}, "its compressed data do not agree with their checksum"),
        ({"left_out": 1}, "its compressed data end early"),
        ({"left_out": 4}, "its compressed data end early"),
    ],
)
def test_the_checksum_of_all_pixels_counts(bits: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=f"x is damaged: {message}"):
        decode_image(png(noise(bits), **options), "x")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pieces", [1, 7])
def test_any_changed_byte_of_the_pixels_is_found(bits: int, pieces: int) -> None:
    whole = png(noise(bits), pieces=pieces)
    rng = np.random.default_rng(0)
    for at in [*rng.integers(HEAD_BYTES, len(whole) - 12, 30), *range(len(whole) - 30, len(whole) - 12)]:
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.integers(8)
        with pytest.raises(ImageError):
            decode_image(bytes(changed), "x")


def test_what_unpacks_to_far_more_than_the_size_needs_is_refused_soon() -> None:
    rows = unfiltered(noise(8))
    assert np.array_equal(decode_image(png(noise(8), rows=rows + bytes(1000)), "x").pixels, noise(8))
    with pytest.raises(ImageError, match="unpack to more than its size needs"):
        decode_image(png(noise(8), rows=rows + bytes(1 << 22)), "x")


PASSES = np.array(
    [
        [1, 6, 4, 6, 2, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [3, 6, 4, 6, 3, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
    ]
)
"""Pass of each pixel of an interlaced PNG, in squares of 8 (PNG specification, 8.2)."""


def interlaced_rows(pixels: NDArray[Any]) -> bytes:
    height, width, channels = pixels.shape
    passes = np.tile(PASSES, (height // 8 + 1, width // 8 + 1))[:height, :width]
    parts = []
    for number in range(1, 8):
        rows, columns = np.nonzero(passes == number)
        if len(rows):
            part = pixels[rows, columns].reshape(len(np.unique(rows)), -1, channels)
            parts.append(unfiltered(part))
    return b"".join(parts)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (4, 5), (5, 4), (3, 2), (8, 8), (17, 11)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_that_are_missing_are_found_interlaced_or_not(size: tuple[int, int], channels: int, bits: int) -> None:
    pixels = np.random.default_rng(0).integers(1, 2**bits, (*size, channels)).astype(f"uint{bits}")
    for interlaced, rows in enumerate((unfiltered(pixels), interlaced_rows(pixels))):
        found = decode_image(png(pixels, rows=rows, interlaced=interlaced), "x").pixels
        assert np.array_equal(found.reshape(pixels.shape), pixels)
        with pytest.raises(ImageError, match="x is damaged: "):
            decode_image(png(pixels, rows=rows[:-1], interlaced=interlaced), "x")


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 9])
def test_rows_of_less_than_a_byte_a_pixel_are_counted(bits: int, width: int) -> None:
    stream = io.BytesIO()
    Image.new("1" if bits == 1 else "P", (width, 3), 1).save(stream, "PNG", bits=bits)
    content = stream.getvalue()
    assert decode_image(content, "x").pixels.shape[:2] == (3, width)
    head = content[16:20] + struct.pack(">I", 4) + content[24:29]
    with pytest.raises(ImageError, match="it has fewer rows than its size needs"):
        decode_image(content[:8] + chunk(b"IHDR", head) + content[HEAD_BYTES:], "x")


@pytest.mark.parametrize("kind", [b"PLTE", b"IEND"])
def test_the_checksum_of_every_chunk_that_pixels_need_counts(kind: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(8)).convert("P").save(stream, "PNG")
    content = bytearray(stream.getvalue())
    decode_image(bytes(content), "x")
    at = content.index(kind)
    (length,) = struct.unpack_from(">I", content, at - 4)
    content[at + 4 + length] ^= 1
    with pytest.raises(ImageError):
        decode_image(bytes(content), "x")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_without_its_end_or_with_two_heads_is_refused(bits: int) -> None:
    whole = png(noise(bits))
    for damaged in (whole[:-12], whole[:-5], whole[:HEAD_BYTES] + whole[8:HEAD_BYTES] + whole[HEAD_BYTES:]):
        with pytest.raises(ImageError, match="x is damaged: "):
            decode_image(damaged, "x")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("method", [26, 27, 28])
def test_a_head_with_a_method_that_png_does_not_have_is_refused(bits: int, method: int) -> None:
    whole = bytearray(png(noise(bits)))
    whole[method] = 2
    head = chunk(b"IHDR", bytes(whole[16:29]))
    with pytest.raises(ImageError):
        decode_image(bytes(whole[:8]) + head + bytes(whole[HEAD_BYTES:]), "x")


def test_a_palette_that_cannot_be_one_is_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(8)).convert("P").save(stream, "PNG")
    whole = stream.getvalue()
    decode_image(whole, "x")
    at = whole.index(b"PLTE") - 4
    end = at + 12 + int.from_bytes(whole[at : at + 4], "big")
    palette, data_end = whole[at:end], len(whole) - 12
    colours = palette[8:-4]
    for damaged in (
        whole[:end] + palette + whole[end:],
        whole[:at] + whole[end:data_end] + palette + whole[data_end:],
        *(whole[:at] + chunk(b"PLTE", other) + whole[end:] for other in (colours[:-1], b"", colours + bytes(768))),
    ):
        with pytest.raises(ImageError):
            decode_image(damaged, "x")


def test_a_text_behind_the_pixels_whose_checksum_is_wrong_costs_no_pixel() -> None:
    whole = png(noise(8))
    text = bytearray(chunk(b"tEXt", b"Comment\0a"))
    text[-1] ^= 1
    assert np.array_equal(decode_image(whole[:-12] + text + whole[-12:], "x").pixels, noise(8))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("options", [{}, {"predictor": True}, {"tile": (16, 16)}, {"rowsperstrip": 7}], ids=str)
def test_any_changed_pixel_of_a_tiff_with_checksums_is_found(bits: int, options: dict[str, Any]) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, noise(bits), photometric="rgb", metadata=None, compression="zlib", **options)
    whole = stream.getvalue()
    assert np.array_equal(decode_image(whole, "x").pixels, noise(bits))
    (page,) = tifffile.TiffFile(io.BytesIO(whole)).pages
    last, size = page.dataoffsets[-1], page.databytecounts[-1]
    rng = np.random.default_rng(0)
    for at in [*rng.integers(last + 2, last + size, 30), *range(last + size - 6, last + size)]:
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.integers(8)
        try:
            pixels = decode_image(bytes(changed), "x").pixels
        except ImageError:
            continue
        assert np.array_equal(pixels, noise(bits))  # there are bits that mean nothing


@given(
    unpacked=st.integers(0, 70),
    most=st.integers(1, 40),
    size=st.integers(1, 9),
    library=st.sampled_from([vars(checksums)["deflate"], zlib]),
)
def test_all_is_unpacked_whatever_the_pieces(unpacked: int, most: int, size: int, library: ModuleType) -> None:
    packed = zlib.compress(bytes(range(unpacked)) * 3 + bytes(unpacked * 20))
    pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
    with patch.object(checksums, "deflate", library), patch.object(checksums, "_UNPACKED_BYTES", most):
        vars(checksums)["_check_deflate"](pieces, unpacked * 23)
        with pytest.raises(ValueError, match="end early"):
            vars(checksums)["_check_deflate"]([*pieces[:-1], pieces[-1][:-1]], unpacked * 23)
