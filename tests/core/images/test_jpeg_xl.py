import contextlib
import io
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pillow_jxl
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.jxl_header import read_jpeg_xl
from drc_deploy.images.reading import decode_image, decoding_bytes, read_image
from tests.core.images.tags.test_xmp import packet
from tests.core.images.test_metadata_kept import kept
from tests.core.images.test_reading import gradient

assert pillow_jxl  # which makes Pillow read and write JPEG XL
XMP = packet(b"xmp:Rating='5' tiff:Orientation='6'")
CONTAINER = "0000000c4a584c200d0a870a00000014667479706a786c20000000006a786c20000000096a786c6c0a000000"
DEEP_GREY_AND_ALPHA = bytes.fromhex(
    CONTAINER
    + "776a786c63ff0a280008e047f00350b4080810100074014b18938e83839904c525dadd82128a1b4006df5fe000400700a3208c82300ac2"
    "2808a3209491325246cac8c74819292365a48c7c8c9491325246cac8c74819292365a48c7c8c9491325246cac8c74819292365a48c5c78"
    "80e521088200"
)
FLOATING = bytes.fromhex(
    CONTAINER
    + "9d6a786c63ff0a2800089003285a040804010014024b189bed4e42c10c903e3d61b707e0007ead408c710100003f78c085828278180000"
    "001414140401fbfa20505010b86464243f000080726e6e424646020000982f1414b43f5f5ffb0b0a0a2ad8d7f7716e96ba29f1d47ebe83"
    "6ca1a020cca296b60bcbde424141a8a52d6f030a5d212119daf296b8cbe6d588aa366f89cbdc05ec4658ab16"
)
TEN_BITS = bytes.fromhex(
    "ff0a280008a080a2450804010074024b18938e83850911708d11318c883118352e8a318a32c21017880e804f2b01004848b73c10118148"
    "0814e287dfd5411938089481d58ede411938089481d5418cef193808c4c22051a123f9e3139a32bfa0b681bc8f20395cb834cc2443886b"
    "00ad9e8ac519290d3ac13d9100a0480a234e18af80b10dbc2460f86930c0d3b9898ca9386089a35dd7f1c0a994fbc5818ea4049f775ada"
    "f6ce7130605770"
)
"""Of 5x6 pixels, red 40 times the row, green 50 times the column, blue 20 times their sum; by libjxl 0.11."""


def encoded(image: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JXL", **{"lossless": True, **options})
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 2), (20, 30, 3), (20, 30, 4)])
def test_pixels_of_8_bits_come_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "x.jxl").write_bytes(encoded(gradient(*shape)))
    assert np.array_equal(read_image(tmp_path / "x.jxl").pixels, gradient(*shape))


def test_16_bits_of_grey_come_back() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    assert np.array_equal(decode_image(encoded(image), "x.jxl").pixels, image)


def test_more_bits_of_colours_are_read_in_8_with_a_note() -> None:
    picture = decode_image(TEN_BITS, "x.jxl")
    rows, columns = np.mgrid[:6, :5]
    assert np.array_equal(picture.pixels, np.stack([40 * rows, 50 * columns, 20 * (rows + columns)], 2))
    assert picture.notes == ("x.jxl has 10 bits a sample: they are read as 8.",)


@pytest.mark.parametrize(
    ("content", "what"), [(DEEP_GREY_AND_ALPHA, "grey with transparency of more than 8 bits"), (FLOATING, "floating")]
)
def test_samples_that_would_be_wrong_are_refused(content: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"holds {what}"):
        decode_image(content, "x.jxl")


def test_the_orientation_is_that_of_the_codestream_and_not_of_the_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera Works"
    content = encoded(gradient(20, 30, 3), exif=exif.tobytes(), xmp=XMP, use_container=True)
    picture = decode_image(content, "x.jxl")
    assert np.array_equal(picture.pixels, gradient(20, 30, 3))
    with Image.open(kept(picture, tmp_path / "out.png")) as written:
        assert (written.getexif()[0x0112], written.getexif()[0x010F]) == (1, "Camera Works")
        assert written.info["xmp"] == XMP.replace(b"'6'", b"'1'")


def test_a_jpeg_in_a_jpeg_xl_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(24, 32, 3)).save(tmp_path / "x.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "x.jpg") as jpeg:
        jpeg.save(tmp_path / "x.jxl", lossless_jpeg=True)
    expected = read_image(tmp_path / "x.jpg").pixels.astype(int)
    assert np.abs(read_image(tmp_path / "x.jxl").pixels - expected).max() <= 1


def test_the_head_says_the_size_of_any_image() -> None:
    draw = random.Random(1)
    sizes = [(8 * draw.randint(1, 40), 8 * draw.randint(1, 40)) for _ in range(15)]
    sizes += [(draw.randint(1, 700), draw.randint(1, 700)) for _ in range(25)]
    sizes += [(320, 240), (160, 90), (300, 200), (240, 240), (84, 70), (60, 48), (80, 40), (9000, 3), (3, 9000)]
    for width, height in sizes:
        content = encoded(np.zeros((height, width), np.uint8), effort=1)
        head = read_jpeg_xl(content)
        assert (head.width, head.height, head.bits) == (width, height, 8)


def test_its_size_is_refused_and_its_memory_foreseen_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(gradient(40, 50, 3))
    (tmp_path / "x.jxl").write_bytes(content[:40])  # which no decoder takes
    assert decoding_bytes(tmp_path / "x.jxl") == 30 * 40 * 50 + 40
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    with pytest.raises(ImageError, match="too large"):
        read_image(tmp_path / "x.jxl")


def test_without_its_package_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImageError, match="pillow-jxl-plugin, which reads them, is not installed") as caught:
        decode_image(encoded(gradient(20, 30, 3)), "x.jxl")
    assert "drc-deploy[formats]" in caught.value.hint


@pytest.mark.parametrize("options", [{}, {"use_container": True, "xmp": XMP}, {"lossless": False}], ids=len)
def test_damage_of_any_byte_is_an_image_or_one_error(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)
    content = encoded(gradient(16, 16, 3), **options)
    for position in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= flip
            with contextlib.suppress(ImageError):
                decode_image(bytes(damaged), "x").metadata.for_size(8, 8)
    for part in (0, 1, 2, 5, 20, len(content) // 2, len(content) - 3):
        with pytest.raises(ImageError) as caught:
            decode_image(content[:part], "x.jxl")
        assert "\n" not in caught.value.message
