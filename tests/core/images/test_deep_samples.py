import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import decode_image


def noise(*shape: int) -> NDArray[np.uint16]:
    return np.random.default_rng(6).integers(0, 65536, shape, np.uint16)


def read_tiff(pixels: NDArray[Any], **options: Any) -> NDArray[Any]:
    """Write by tifffile, read by the package."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return decode_image(buffer.getvalue(), "x.tif").pixels


@pytest.mark.parametrize(
    "options",
    [{}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": True}],
    ids=str,
)
def test_a_tiff_of_any_storage_comes_back_exactly(options: dict[str, Any]) -> None:
    image = noise(20, 30, 3)
    assert np.array_equal(read_tiff(image, photometric="rgb", **options), image)


def test_a_tiff_where_white_is_zero_is_no_negative() -> None:
    image = noise(6, 5)
    assert np.array_equal(read_tiff(image, photometric="miniswhite"), 65535 - image)


def test_colours_that_were_multiplied_by_their_alpha_are_divided_by_it() -> None:
    colours, alpha = noise(40, 30, 3), noise(40, 30, 1)
    alpha[:4], alpha[4:8] = 0, 65535
    multiplied = np.rint(colours * (alpha / 65535)).astype(np.uint16)
    read = read_tiff(np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    assert np.array_equal(read[:, :, 3:], alpha)
    # The rounding of the product to 1 is one of 65535 / alpha in the quotient.
    error = np.abs(read[:, :, :3].astype(float) - colours)[4:]
    assert (error <= 0.5 * 65535 / np.maximum(alpha[4:], 1) + 0.5).all()


def test_a_fourth_sample_that_is_no_alpha_is_left_out() -> None:
    image = noise(6, 5, 4)
    assert np.array_equal(read_tiff(image, photometric="rgb", extrasamples=["unspecified"]), image[:, :, :3])


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (noise(3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}, "a plane per channel"),
        (noise(6, 5, 4), {"photometric": "separated"}, "CMYK samples of 16 bits"),
    ],
)
def test_what_would_be_decoded_wrongly_is_refused(pixels: NDArray[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_tiff(pixels, **options)


def test_12_bits_are_refused() -> None:
    width, height, data = 4, 2, bytes(12)
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: height, 279: 12}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + bytes(4) + data
    with pytest.raises(ImageError, match="samples of 12 bits"):
        decode_image(content, "x.tif")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2)])
def test_the_one_transparent_colour_of_a_png_becomes_an_alpha(channels: int, colour_type: int) -> None:
    image = noise(6, 5, channels)
    image[4, 3] = image[1, 2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    head = struct.pack(">IIBBBBB", 5, 6, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"tRNS", image[1, 2].astype(">u2").tobytes()), (b"IDAT", zlib.compress(rows))]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in (*chunks, (b"IEND", b"")))
    pixels = decode_image(content, "x.png").pixels
    assert np.array_equal(pixels[:, :, :-1], image)
    assert np.argwhere(pixels[:, :, -1] != 65535).tolist() == [[1, 2], [4, 3]]
    assert pixels[1, 2, -1] == pixels[4, 3, -1] == 0
