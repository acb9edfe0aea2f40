import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import decode_image

WIDTH, HEIGHT, STRIP_ROWS = 256, 257, 278
OFFSETS, SIZES = (273, 324), (279, 325)
"""Tags of strips and of tiles (TIFF 6.0)."""
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 16},
    "one strip": {"rowsperstrip": 64},
    "tiles": {"tile": (16, 16)},
}
FORMS = [(dtype, channels, layout) for dtype in ("uint8", "uint16") for channels in (1, 3, 4) for layout in LAYOUTS]
"""Type of the samples, channels, and how the file is cut."""


def picture(dtype: str, channels: int) -> NDArray[Any]:
    samples = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (64, 48, channels), dtype)
    return samples[:, :, 0] if channels == 1 else samples


def tiff(samples: NDArray[Any], **options: Any) -> bytearray:
    stream = io.BytesIO()
    colours = "minisblack" if samples.ndim == 2 else "rgb"
    extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if samples.shape[-1] == 4 else {}
    tifffile.imwrite(stream, samples, photometric=colours, metadata=None, **extra, **options)
    return bytearray(stream.getvalue())


def entry(content: bytearray, tags: tuple[int, ...]) -> int:
    """Return where the first of ``tags`` stands in the directory of a small-endian TIFF."""
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    entries = range(directory + 2, directory + 2 + 12 * count, 12)
    return next(at for at in entries if struct.unpack_from("<H", content, at)[0] in tags)


def set_size(content: bytearray, tag: int, value: int) -> bytearray:
    struct.pack_into("<HII", content, entry(content, (tag,)) + 2, 4, 1, value)
    return content


def set_last(content: bytearray, tags: tuple[int, ...], value: int) -> bytearray:
    """Change the last number of a list of strips or tiles."""
    at = entry(content, tags)
    kind, count = struct.unpack_from("<HI", content, at + 2)
    number = "<H" if kind == 3 else "<I"
    size = struct.calcsize(number)
    first = at + 8 if count * size <= 4 else struct.unpack_from("<I", content, at + 8)[0]
    struct.pack_into(number, content, first + (count - 1) * size, value)
    return content


@pytest.mark.parametrize(("dtype", "channels", "layout"), FORMS)
@pytest.mark.parametrize(("tag", "value"), [(HEIGHT, 65), (HEIGHT, 20_000), (WIDTH, 65), (WIDTH, 4800)])
def test_a_size_that_the_file_does_not_hold_is_refused(
    dtype: str, channels: int, layout: str, tag: int, value: int
) -> None:
    samples = picture(dtype, channels)
    content = tiff(samples, **LAYOUTS[layout])
    assert np.array_equal(decode_image(bytes(content), "x").pixels, samples)
    with pytest.raises(ImageError, match="x is damaged: it"):
        decode_image(bytes(set_size(content, tag, value)), "x")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{"bigtiff": True}, {"planarconfig": "separate"}, {"byteorder": ">"}], ids=str)
def test_every_cut_is_read_exactly_and_refused_without_its_end(layout: str, options: dict[str, Any]) -> None:
    samples = picture("uint8", 3)
    stored = samples.transpose(2, 0, 1).copy() if "planarconfig" in options else samples
    content = tiff(stored, **options, **LAYOUTS[layout])
    assert np.array_equal(decode_image(bytes(content), "x").pixels, samples)
    with pytest.raises(ImageError, match="x is damaged"):
        decode_image(bytes(content[:-1]), "x")


def test_planes_are_counted_each() -> None:
    content = tiff(picture("uint8", 3).transpose(2, 0, 1).copy(), planarconfig="separate", rowsperstrip=16)
    for tags in (OFFSETS, SIZES):
        struct.pack_into("<I", content, entry(content, tags) + 4, 11)  # of 3 x 4
    with pytest.raises(ImageError, match="it has 11 of the 12 strips or tiles that its size needs"):
        decode_image(bytes(content), "x")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [0, 2**16 - 1])
def test_a_strip_that_stands_nowhere_in_the_file_is_refused(layout: str, value: int) -> None:
    content = set_last(tiff(picture("uint8", 3), **LAYOUTS[layout]), OFFSETS, value)
    with pytest.raises(ImageError, match="is missing or too short"):
        decode_image(bytes(content), "x")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_strip_with_fewer_bytes_than_its_rows_is_refused_and_one_with_an_odd_number_read(dtype: str) -> None:
    content = tiff(picture(dtype, 3), rowsperstrip=16)
    with pytest.raises(ImageError, match="strip or tile 3 is missing or too short"):
        decode_image(bytes(set_last(content, SIZES, 100)), "x")
    for size in (0, 30_000):  # as some programs write
        pixels = decode_image(bytes(set_last(content, SIZES, size)), "x").pixels
        assert np.array_equal(pixels, picture(dtype, 3))


@pytest.mark.parametrize("rows", [15, 17, 2**32 - 1])
def test_strips_of_another_height_are_refused(rows: int) -> None:
    content = set_size(tiff(picture("uint8", 1), rowsperstrip=16), STRIP_ROWS, rows)
    with pytest.raises(ImageError, match="x is damaged: it"):
        decode_image(bytes(content), "x")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_that_may_be_a_negative_is_refused(dtype: str) -> None:
    content = tiff(picture(dtype, 1))
    struct.pack_into("<H", content, entry(content, (262,)), 263)  # the tag of the colours becomes another
    with pytest.raises(ImageError, match="it does not say whether 0 is black or white"):
        decode_image(bytes(content), "x")


def test_a_last_strip_with_fewer_rows_is_whole() -> None:
    samples = picture("uint8", 3)[:61]
    assert np.array_equal(decode_image(bytes(tiff(samples, rowsperstrip=16)), "x").pixels, samples)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 33])
def test_rows_of_single_bits_end_in_a_whole_byte(width: int) -> None:
    stream = io.BytesIO()
    Image.new("1", (width, 5), 1).save(stream, "TIFF")
    assert decode_image(stream.getvalue(), "x").pixels.shape == (5, width)


def test_uncompressed_colours_that_pixels_share_are_not_called_damage() -> None:
    content = bytearray(tiff(picture("uint8", 3)))
    for tag, value in ((262, 6), (WIDTH, 96)):  # half of the bytes that YCbCr in full would take
        set_size(content, tag, value)
    with pytest.raises(ImageError, match="holds uncompressed YCbCr samples that pixels share, which cannot be read"):
        decode_image(bytes(content), "x")
