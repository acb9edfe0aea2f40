import errno
import io
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import decode_image, decoding_bytes, limit_pixels, read_image, read_rgb


def gradient(*shape: int) -> NDArray[np.uint8]:
    """Smooth, without symmetry, so that turned or swapped channels show and JPEG keeps it."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    planes = np.stack([3 * rows, 2 * columns, rows + columns, 255 - rows], axis=2).astype(np.uint8)
    return planes[:, :, 0] if len(shape) == 2 else planes[:, :, : shape[2]]


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_pixels_come_back_exactly_in_rgb_order(tmp_path: Path, suffix: str) -> None:
    image = gradient(20, 30, 3)
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"x.{suffix}", **options)
    assert np.array_equal(read_image(tmp_path / f"x.{suffix}").pixels, image)


def test_a_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    image = gradient(20, 30, 3)
    Image.fromarray(image).save(tmp_path / "x.jpg", quality=98, subsampling=0)
    assert np.abs(read_image(tmp_path / "x.jpg").pixels.astype(int) - image).max() <= 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_come_back_exactly(tmp_path: Path, suffix: str, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (9, 7, channels), np.uint16)
    bgr = image[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else image
    assert cv2.imwrite(str(tmp_path / f"x.{suffix}"), bgr)
    pixels = read_image(tmp_path / f"x.{suffix}").pixels
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, image.squeeze(2) if channels == 1 else image)


UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.fliplr(np.rot90(stored, -1)),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.fliplr(np.rot90(stored, 1)),
    8: lambda stored: np.rot90(stored, 1),
}
"""EXIF 2.32, tag 0x0112: what turns the stored pixels upright."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (1, 16)])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, channels: int, bits: int, orientation: int) -> None:
    image = gradient(20, 30, 3) if channels == 3 else gradient(20, 30)
    stored = image.astype(np.uint16) * 257 if bits == 16 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"x.{suffix}", exif=exif)
    assert np.array_equal(read_image(tmp_path / f"x.{suffix}").pixels, UPRIGHT[orientation](stored))


def test_a_photograph_that_was_taken_upright_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(20, 30, 3)).save(tmp_path / "x.jpg", exif=exif, quality=98, subsampling=0)
    difference = read_image(tmp_path / "x.jpg").pixels.astype(int) - np.rot90(gradient(20, 30, 3), -1)
    assert np.abs(difference).max() <= 6


@pytest.mark.parametrize(
    ("mode", "options", "shape"),
    [
        ("P", {}, (20, 30, 3)),
        ("P", {"transparency": 0}, (20, 30, 4)),
        ("1", {}, (20, 30)),
        ("L", {}, (20, 30)),
        ("L", {"transparency": 9}, (20, 30, 2)),
        ("LA", {}, (20, 30, 2)),
        ("RGB", {"transparency": (0, 0, 0)}, (20, 30, 4)),
        ("RGBA", {}, (20, 30, 4)),
    ],
)
def test_every_mode_of_png_becomes_grey_or_rgb_with_its_alpha(
    tmp_path: Path, mode: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    Image.fromarray(gradient(20, 30, 3)).convert(mode).save(tmp_path / "x.png", **options)
    assert read_image(tmp_path / "x.png").pixels.shape == shape


def test_a_cmyk_jpeg_becomes_rgb_and_loses_the_profile_that_no_longer_fits(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image.save(tmp_path / "x.jpg", icc_profile=srgb_profile())
    picture = read_image(tmp_path / "x.jpg")
    assert picture.metadata.icc_profile is None
    red, green, blue = picture.pixels[4, 4].tolist()
    assert red > 200
    assert max(green, blue) < 60


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_colour_profile_is_kept(tmp_path: Path, suffix: str) -> None:
    profile = srgb_profile()
    Image.fromarray(gradient(8, 8, 3)).save(tmp_path / f"x.{suffix}", icc_profile=profile)
    assert read_image(tmp_path / f"x.{suffix}").metadata.icc_profile == profile


def profile_of(space: bytes) -> bytes:
    """A profile that is said to be of another colour space (ICC.1, table 15: bytes 16 to 19)."""
    profile = srgb_profile()
    return profile[:16] + space + profile[20:]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize(
    "profile", [profile_of(b"CMYK"), profile_of(b"GRAY"), srgb_profile()[:100], b"garbage"], ids=len
)
def test_a_profile_that_is_not_of_the_pixels_is_left_out_with_a_note(
    tmp_path: Path, suffix: str, profile: bytes
) -> None:
    Image.fromarray(gradient(8, 8, 3)).save(tmp_path / f"x.{suffix}", icc_profile=profile)
    picture = read_image(tmp_path / f"x.{suffix}")
    assert picture.metadata.icc_profile is None
    assert "it is left out" in picture.notes[0]


def test_a_grey_profile_stays_with_a_grey_image(tmp_path: Path) -> None:
    Image.fromarray(gradient(8, 8)).save(tmp_path / "x.png", icc_profile=profile_of(b"GRAY"))
    assert read_image(tmp_path / "x.png").metadata.icc_profile == profile_of(b"GRAY")


def test_of_an_animation_the_first_frame_is_read_with_a_note(tmp_path: Path) -> None:
    image = Image.fromarray(gradient(20, 30, 3))
    image.save(tmp_path / "x.png", save_all=True, append_images=[image.rotate(180)])
    picture = read_image(tmp_path / "x.png")
    assert np.array_equal(picture.pixels, np.asarray(image))
    assert "2 frames" in picture.notes[0]


@pytest.mark.parametrize("options", [{}, {"transparency": 255}])
def test_what_a_frame_of_a_gif_leaves_open_is_transparent_or_noted(options: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(8, 32)).save(buffer, "GIF", **options)
    content = bytearray(buffer.getvalue())
    assert decode_image(bytes(content), "x").notes == ()
    struct.pack_into("<HH", content, 6, 40, 9)  # the screen of GIF89a
    picture = decode_image(bytes(content), "x")
    assert picture.pixels.shape[:2] == (9, 40)
    if options:
        assert not picture.pixels[8, :, -1].any()
        assert picture.notes == ()
    else:
        assert "smaller than the whole image" in picture.notes[0]


def encoded(suffix: str, *, bits: int = 8) -> bytes:
    image = np.random.default_rng(0).integers(0, 2**bits, (40, 50, 3)).astype(f"uint{bits}")
    return bytes(cv2.imencode(f".{suffix}", image)[1])


@pytest.mark.parametrize(
    ("suffix", "bits"), [("png", 8), ("jpg", 8), ("tif", 8), ("webp", 8), ("bmp", 8), ("png", 16), ("tif", 16)]
)
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, bits: int) -> None:
    content = encoded(suffix, bits=bits)
    for part in (0.02, 0.5, 0.9):
        (tmp_path / f"x.{suffix}").write_bytes(content[: int(len(content) * part)])
        with pytest.raises(ImageError, match=f"x.{suffix} is "):
            read_image(tmp_path / f"x.{suffix}")


def photograph() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient(320, 200, 3)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_of_a_truncated_jpeg_the_upper_part_can_be_had_with_a_note(tmp_path: Path) -> None:
    content = photograph()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ImageError, match=r"x\.jpg is damaged") as caught:
        read_image(tmp_path / "x.jpg")
    assert "--tolerant" in caught.value.hint
    picture = read_image(tmp_path / "x.jpg", tolerant=True)
    assert picture.pixels.shape == (320, 200, 3)
    assert np.array_equal(picture.pixels[:100], decode_image(content, "whole").pixels[:100])
    assert "ends early" in picture.notes[0]


def test_tolerance_changes_nothing_for_whole_files_and_excuses_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(photograph())
    assert read_image(tmp_path / "x.jpg", tolerant=True).notes == ()
    (tmp_path / "x.png").write_bytes(encoded("png")[:500])
    (tmp_path / "head.jpg").write_bytes(photograph()[:30])
    for name in ("x.png", "head.jpg"):
        with pytest.raises(ImageError):
            read_image(tmp_path / name, tolerant=True)


def test_the_bytes_of_a_file_are_read_like_the_file(tmp_path: Path) -> None:
    for suffix, bits in (("png", 8), ("png", 16), ("tif", 16), ("bmp", 8)):
        (tmp_path / f"x.{suffix}").write_bytes(encoded(suffix, bits=bits))
        expected = read_image(tmp_path / f"x.{suffix}").pixels
        assert np.array_equal(decode_image(encoded(suffix, bits=bits), "bytes").pixels, expected)
    with pytest.raises(ImageError, match="standard input is empty"):
        decode_image(b"", "standard input")


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_an_image_without_pixels_is_refused(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    content = bytearray(uncompressed(suffix))
    for position, side in zip(SIDES[suffix], size, strict=True):
        struct.pack_into(">I" if suffix == "png" else "<I", content, position, side)
    if suffix == "png":
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(ImageError, match=f"x.{suffix} is "):
        read_image(tmp_path / f"x.{suffix}")


def uncompressed(suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient(7, 6)).save(buffer, {"png": "PNG", "bmp": "BMP", "tif": "TIFF"}[suffix])
    return buffer.getvalue()


SIDES = {"png": (16, 20), "bmp": (18, 22), "tif": (18, 30)}
"""Where width and height stand; in a TIFF as Pillow writes it, the values of its first two tags."""


def test_a_png_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    content = bytearray(encoded("png"))
    content[len(content) // 2] ^= 16
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match="is damaged"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"Dear diary", "is not an image"),
        (b"GIF89a" * 9, "is damaged"),
        (b"GIMP" * 20, "is not an image"),
    ],
)
def test_a_file_without_an_image_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "x.png")


def test_a_known_format_of_an_unknown_kind_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"II*\0\x08\0\0\0" + bytes(99))
    with pytest.raises(ImageError, match="a TIFF of a kind that cannot be read here"):
        read_image(tmp_path / "x.tif")


def test_a_missing_file_a_folder_and_a_path_through_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (("gone.png", "does not exist"), (".", "is a folder"), ("file/x.png", "x.png")):
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / path)


def test_a_header_that_promises_a_gigapixel_is_refused_before_decoding(tmp_path: Path) -> None:
    content = bytearray(encoded("png"))
    content[16:24] = struct.pack(">II", 40000, 40000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match="too large"):
        read_image(tmp_path / "x.png")


def test_the_limit_on_pixels_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    (tmp_path / "x.png").write_bytes(encoded("png"))
    limit_pixels(40 * 50)
    assert read_image(tmp_path / "x.png").pixels.shape == (40, 50, 3)
    limit_pixels(40 * 50 - 2)
    with pytest.raises(ImageError, match="too large") as caught:
        read_image(tmp_path / "x.png")
    assert "--max-pixels" in caught.value.hint


def test_more_16_bit_pixels_than_can_be_decoded_are_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    content = bytearray(encoded("png", bits=16))
    content[16:24] = struct.pack(">II", 40000, 40000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "x.png").write_bytes(content)
    limit_pixels(10**10)
    with pytest.raises(ImageError, match="too large for 16 bits: 40000x40000"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_comes_through_a_pipe_with_a_name(tmp_path: Path, bits: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert decoding_bytes(tmp_path / "pipe") == 0
    feeder = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(encoded("png", bits=bits),))
    feeder.start()
    picture = read_image(tmp_path / "pipe")
    feeder.join()
    assert np.array_equal(picture.pixels, decode_image(encoded("png", bits=bits), "bytes").pixels)


def test_the_header_shows_how_much_memory_the_pixels_take(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded("png")[:100])
    assert decoding_bytes(tmp_path / "x.png") == 14 * 40 * 50
    (tmp_path / "none.png").write_text("no image")
    assert decoding_bytes(tmp_path / "none.png") == decoding_bytes(tmp_path / "missing.png") == 0


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_the_resolution_is_kept_and_turned_with_the_image(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(gradient(8, 8, 3))
    image.save(tmp_path / f"flat.{suffix}", dpi=(300, 200))
    assert read_image(tmp_path / f"flat.{suffix}").metadata.dpi == pytest.approx((300, 200), abs=0.01)
    if suffix != "bmp":
        image.save(tmp_path / f"turned.{suffix}", dpi=(300, 200), exif=exif)
        assert read_image(tmp_path / f"turned.{suffix}").metadata.dpi == pytest.approx((200, 300), abs=0.01)


def test_a_resolution_that_says_nothing_is_none(tmp_path: Path) -> None:
    Image.fromarray(gradient(8, 8, 3)).save(tmp_path / "x.bmp", dpi=(0, 0))
    assert read_image(tmp_path / "x.bmp").metadata.dpi is None


@pytest.mark.parametrize("dpi", [(1e9, 1e9), (72, 1e6)])
def test_a_resolution_that_no_image_has_is_none(dpi: tuple[float, float]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient(8, 8, 3)).save(buffer, "TIFF", dpi=dpi)
    assert decode_image(buffer.getvalue(), "x.tif").metadata.dpi is None


def test_a_corrupt_exif_does_not_make_an_image_unreadable(tmp_path: Path) -> None:
    Image.fromarray(gradient(8, 8, 3)).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "x.jpg").metadata.for_size(8, 8).exif is None
    for suffix in ("png", "webp"):
        Image.fromarray(gradient(8, 8, 3)).save(tmp_path / f"x.{suffix}", exif=b"Exif\0\0no EXIF at all", lossless=True)
        picture = read_image(tmp_path / f"x.{suffix}")
        assert np.array_equal(picture.pixels, gradient(8, 8, 3))
        assert picture.metadata.for_size(8, 8).exif is None


def test_float_tiff_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(buffer, "TIFF")
    (tmp_path / "x.tif").write_bytes(buffer.getvalue())
    with pytest.raises(ImageError, match="floating-point"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 2), (5, 6, 3), (5, 6, 4)])
def test_any_image_can_be_read_as_8_bit_rgb(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = gradient(5, 6, 4)[:, :, : shape[2]] if len(shape) == 3 else gradient(5, 6)
    Image.fromarray(image).save(tmp_path / "x.png")
    rgb = read_rgb(tmp_path / "x.png")
    grey = len(shape) == 2 or shape[2] == 2
    expected = np.dstack([image.reshape(5, 6, -1)[:, :, 0]] * 3) if grey else image[:, :, :3]
    assert np.array_equal(rgb, expected)


def test_16_bits_are_rounded_to_the_nearest_of_8(tmp_path: Path) -> None:
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    assert np.array_equal(read_rgb(tmp_path / "x.png")[:, :, 1], np.round(image / 257).astype(np.uint8))


def test_a_damaged_profile_does_not_make_a_cmyk_image_unreadable(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg", icc_profile=b"x" * 200)
    assert read_image(tmp_path / "a.jpg").pixels.shape == (8, 8, 3)


def tiff_with_field(tag: int, kind: int, value: bytes) -> bytes:
    """A TIFF as Pillow writes it, one of whose fields has another type (TIFF 6.0, page 15) and value."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[DESCRIPTION] = "tree"  # short: it stands in the field itself
    Image.fromarray(gradient(7, 6)).save(buffer, "TIFF", exif=exif)
    content = bytearray(buffer.getvalue())
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    fields = {struct.unpack_from("<H", content, directory + 2 + 12 * index)[0]: index for index in range(count)}
    struct.pack_into("<HI4s", content, directory + 2 + 12 * fields[tag] + 2, kind, 1, value)
    return bytes(content)


DESCRIPTION, STRIP_OFFSETS, HEIGHT = 0x010E, 0x0111, 0x0101
TEXT, FLOAT = 2, 11


def test_a_tiff_field_of_an_impossible_type_is_damage() -> None:
    for tag, kind, value in ((STRIP_OFFSETS, FLOAT, struct.pack("<f", 8)), (HEIGHT, TEXT, b"tall")):
        with pytest.raises(ImageError, match="is damaged"):
            decode_image(tiff_with_field(tag, kind, value), "x.tif")


def test_a_description_that_is_no_text_does_not_make_a_tiff_unreadable() -> None:
    picture = decode_image(tiff_with_field(DESCRIPTION, FLOAT, bytes(4)), "x.tif")
    assert np.array_equal(picture.pixels, gradient(7, 6))
    assert picture.metadata.exif is None


@settings(deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_whatever_damage_is_an_image_or_one_error(suffix: str, flips: list[tuple[float, int]]) -> None:
    content = bytearray(uncompressed(suffix))
    for place, value in flips:
        content[int(place * len(content))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)
        try:
            picture = decode_image(bytes(content), "x")
        except ImageError:
            return
    assert picture.pixels.size
    picture.metadata.for_size(7, 6)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    with pytest.raises(ImageError, match=r"a\.png cannot be read: Permission denied\.") as caught:
        read_image(path)
    assert "permissions" in caught.value.hint
