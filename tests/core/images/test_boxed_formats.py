import io
import struct
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from drc_deploy.errors import ImageError
from drc_deploy.images.boxes import boxes
from drc_deploy.images.reading import decode_image, read_image
from tests.core.images.tags.test_xmp import packet
from tests.core.images.test_metadata_kept import kept
from tests.core.images.test_reading import gradient

pillow_heif.register_heif_opener()
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = packet(b"xmp:Rating='5'")
LOSSLESS: dict[str, dict[str, Any]] = {
    "avif": {"quality": 100, "subsampling": "4:4:4"},
    "jp2": {},
    "gif": {},
    "heic": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
}


@pytest.mark.parametrize("suffix", ["avif", "jp2", "heic"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4)])
def test_pixels_of_8_bits_come_back(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    image = gradient(*shape)
    Image.fromarray(image).save(tmp_path / f"x.{suffix}", **LOSSLESS[suffix])
    pixels = read_image(tmp_path / f"x.{suffix}").pixels
    if len(shape) == 2 and pixels.ndim == 3:  # AVIF and HEIC have no grey of their own
        assert np.ptp(pixels, axis=2).max() <= 1
        pixels = pixels[:, :, 0]
    assert np.abs(pixels.astype(int) - image).max() <= 2


def test_a_gif_is_read_with_its_transparency_and_its_first_frame_alone(tmp_path: Path) -> None:
    frames = [
        Image.fromarray(gradient(20, 30, 3)).quantize(16),
        Image.fromarray(gradient(20, 30, 3)[::-1]).quantize(16),
    ]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], transparency=3)
    picture = read_image(tmp_path / "x.gif")
    assert picture.pixels.shape == (20, 30, 4)
    assert np.array_equal(picture.pixels[:, :, 3] == 0, np.asarray(frames[0]) == 3)
    visible = picture.pixels[:, :, 3] > 0
    assert np.array_equal(picture.pixels[visible][:, :3], np.asarray(frames[0].convert("RGB"))[visible])
    assert "2 frames" in picture.notes[0]


def noise(*shape: int, bits: int) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 2**bits, shape).astype(np.uint16)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_of_a_jpeg_2000_come_back_exactly(tmp_path: Path, channels: int) -> None:
    image = noise(40, 50, channels, bits=16)
    bgr = image[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else image
    assert cv2.imwrite(str(tmp_path / "x.jp2"), bgr, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    assert np.array_equal(read_image(tmp_path / "x.jp2").pixels, image.squeeze())


@pytest.mark.parametrize("bits", [9, 10, 12, 15])
def test_fewer_bits_of_a_jpeg_2000_get_the_whole_range(tmp_path: Path, bits: int) -> None:
    image = noise(40, 50, bits=bits)
    assert cv2.imwrite(str(tmp_path / "x.jp2"), image, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    content = bytearray((tmp_path / "x.jp2").read_bytes())
    # OpenCV writes 16 bits; without a loss, wavelets keep values that fit fewer, and only the head says how many.
    size = content.index(b"\xff\x4f\xff\x51")
    assert content[size + 42] == 15
    content[size + 42] = bits - 1
    offset = 1 << 15  # the decoder adds half of the range that the head gives
    pixels = decode_image(bytes(content), "x.jp2").pixels.astype(int)
    stored = image.astype(int) - offset + (1 << (bits - 1))
    expected = np.clip(stored, 0, 2**bits - 1) * 65535 / (2**bits - 1)
    assert np.abs(pixels - expected).max() <= 0.5


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def jpeg_2000(colours: bytes, *more: bytes) -> bytes:
    """A JPEG 2000 with another box of colours, and with boxes at its end."""
    buffer = io.BytesIO()
    Image.fromarray(gradient(20, 30, 3)).save(buffer, "JPEG2000")
    made = b""
    for kind, content in boxes(buffer.getvalue()):
        if kind == b"jp2h":
            made += box(kind, b"".join(colours if inner.kind == b"colr" else box(*inner) for inner in boxes(content)))
        else:
            made += box(kind, content)
    return made + b"".join(more)


def test_profile_xmp_and_exif_of_a_jpeg_2000_are_kept_and_it_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    uuid = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    content = jpeg_2000(
        box(b"colr", b"\2\0\0" + PROFILE),
        box(b"uuid", uuid + XMP),
        box(b"uuid", b"JpgTiffExif->JP2" + exif.tobytes().removeprefix(b"Exif\0\0")),
    )
    picture = decode_image(content, "x.jp2")
    assert np.array_equal(picture.pixels, np.rot90(gradient(20, 30, 3), -1))
    assert (picture.metadata.icc_profile, picture.metadata.xmp) == (PROFILE, XMP)
    with Image.open(kept(picture, tmp_path / "out.png")) as written:
        assert written.getexif()[0x0112] == 1


@pytest.mark.parametrize(
    ("colour", "bits", "what"),
    [
        (18, (16, 16, 16), "neither grey nor RGB"),
        (16, (16, 16, 12), "different depths"),
        (16, (-16,) * 3, "signed samples"),
    ],
)
def test_deep_samples_that_would_be_wrong_are_refused(
    tmp_path: Path, colour: int, bits: tuple[int, ...], what: str
) -> None:
    assert cv2.imwrite(str(tmp_path / "x.jp2"), noise(40, 50, 3, bits=16))
    content = bytearray((tmp_path / "x.jp2").read_bytes())
    content[content.index(b"colr") + 7 : content.index(b"colr") + 11] = colour.to_bytes(4, "big")
    size = content.index(b"\xff\x4f\xff\x51")
    for index, depth in enumerate(bits):
        content[size + 42 + 3 * index] = abs(depth) - 1 + (128 if depth < 0 else 0)
    with pytest.raises(ImageError, match=what):
        decode_image(bytes(content), "x.jp2")


@pytest.mark.parametrize("suffix", ["avif", "heic"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_metadata_are_kept_and_the_image_is_turned_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera Works"
    stored = Image.fromarray(gradient(20, 30, 3))
    stored.info["exif"] = exif.tobytes()  # from there alone pillow-heif makes a turn of it
    options = {**LOSSLESS[suffix], "exif": exif.tobytes(), "icc_profile": PROFILE, "xmp": XMP}
    stored.save(tmp_path / f"x.{suffix}", **options)
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE}
    expected = np.asarray(stored if orientation == 1 else stored.transpose(turn[orientation]))  # type: ignore[arg-type]
    picture = read_image(tmp_path / f"x.{suffix}")
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).max() <= 2
    assert picture.metadata.icc_profile == PROFILE
    with Image.open(kept(picture, tmp_path / "out.png")) as written:
        assert (written.getexif().get(0x0112, 1), written.getexif()[0x010F]) == (1, "Camera Works")
        assert written.info["xmp"] == XMP


@pytest.mark.parametrize("depth", [10, 12])
def test_an_avif_of_more_bits_is_read_in_8_with_a_note(tmp_path: Path, depth: int) -> None:
    image = gradient(20, 30, 3)
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    assert cv2.imwrite(str(tmp_path / "x.avif"), image[:, :, ::-1].astype(np.uint16) << (depth - 8), options)
    picture = read_image(tmp_path / "x.avif")
    assert np.abs(picture.pixels.astype(int) - image).max() <= 1
    assert f"has {depth} bits a sample" in picture.notes[0]


def test_10_bits_of_a_heic_become_16_with_the_whole_range(tmp_path: Path) -> None:
    image = (np.mgrid[:64, :64][0] * 16 % 1024).astype(np.uint16)  # smooth, and the largest value is 1008
    image[:8] = 1023
    deep = np.dstack([image << 6] * 3)
    pillow_heif.from_bytes("RGB;16", (64, 64), deep.tobytes()).save(tmp_path / "x.heic", quality=-1, chroma=444)
    pixels = read_image(tmp_path / "x.heic").pixels
    assert pixels.dtype == np.uint16
    assert pixels[:8].min() >= 65535 - 3 * 64
    assert pixels.max() == 65535
    assert np.abs(pixels[:, :, 1].astype(int) - np.round(image * (65535 / 1023))).max() <= 3 * 64


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (12, 13), (1, 13)])
def test_coded_colours_of_a_heic_go_to_a_png(tmp_path: Path, primaries: int, transfer: int) -> None:
    image = Image.fromarray(gradient(64, 64, 3))
    image.save(tmp_path / "x.heic", color_primaries=primaries, transfer_characteristics=transfer)
    picture = read_image(tmp_path / "x.heic")
    plain = (primaries, transfer) == (1, 13)
    assert [data for _, data in picture.metadata.colour] == ([] if plain else [bytes((primaries, transfer, 0, 1))])
    assert ["PQ" in note for note in picture.notes] == ([True] if transfer == 16 else [])


def test_coded_colours_of_an_avif_are_those_of_its_main_picture(tmp_path: Path) -> None:
    Image.fromarray(gradient(64, 64, 3)).save(tmp_path / "x.avif")
    content = bytearray((tmp_path / "x.avif").read_bytes())
    place = content.index(b"nclx") + 4
    content[place : place + 4] = struct.pack(">HH", 9, 18)
    picture = decode_image(bytes(content), "x.avif")
    assert [data for _, data in picture.metadata.colour] == [bytes((9, 18, 0, 1))]
    assert "HLG" in picture.notes[0]


def test_without_its_package_a_heic_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(gradient(20, 30, 3)).save(tmp_path / "x.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="pillow-heif, which reads them, is not installed") as caught:
        read_image(tmp_path / "x.heic")
    assert "drc-deploy[formats]" in caught.value.hint


@pytest.mark.parametrize("suffix", ["avif", "jp2", "heic", "gif"])
def test_damage_of_any_byte_is_an_image_or_one_error(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(gradient(16, 16, 3))
    (image.quantize(16) if suffix == "gif" else image).save(tmp_path / f"x.{suffix}")
    content = (tmp_path / f"x.{suffix}").read_bytes()
    for position in range(0, min(len(content), 900), 3):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)
            try:
                decode_image(bytes(damaged), "x").metadata.for_size(8, 8)
            except ImageError:
                continue


@pytest.mark.parametrize("suffix", ["avif", "jp2", "heic", "gif"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    content = (tmp_path / f"x.{suffix}").read_bytes()
    for part in (0.02, 0.5, 0.9):
        with pytest.raises(ImageError):
            decode_image(content[: int(len(content) * part)], f"x.{suffix}")
