import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.formats import output_notes
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import read_image

BITS, COMPRESSION, COLOURS = 258, 259, 262


def write(path: Path, dtype: str = "uint8", *, rgb: bool = True, **options: Any) -> Path:
    shape = (16, 16, 3) if rgb else (16, 16)
    tifffile.imwrite(
        path, np.zeros(shape, dtype), photometric=options.pop("photometric", "rgb"), metadata=None, **options
    )
    return path


def with_tag(path: Path, tag: int, value: int) -> Path:
    """Change a tag, as if the file were of another kind (TIFF 6.0, page 14)."""
    content = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    for field in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, field)[0] == tag:
            struct.pack_into("<HIHH", content, field + 2, 3, 1, value, 0)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("compression", "name"),
    [(34712, "JPEG2000"), (34887, "LERC"), (50002, "JPEGXL"), (50001, "WEBP"), (12345, "number 12345")],
)
def test_a_compression_that_is_not_read_is_named(tmp_path: Path, dtype: str, compression: int, name: str) -> None:
    path = with_tag(write(tmp_path / "x.tif", dtype), COMPRESSION, compression)
    with pytest.raises(ImageError, match=f"is compressed as {name}, which cannot be read here"):
        read_image(path)


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
def test_one_that_is_read_with_8_bits_only_is_named_with_16(tmp_path: Path, compression: str) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "x.tif", compression=compression)
    assert read_image(tmp_path / "x.tif").pixels.shape == (9, 9)
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "x.tif", compression=compression)
    with pytest.raises(ImageError, match=f"is compressed as {compression.upper()}, which"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        ("float32", "floating-point samples of 32 bits"),
        ("float16", "floating-point samples of 16 bits"),
        ("int16", "signed samples of 16 bits"),
        ("uint32", "samples of 32 bits"),
        ("complex64", "complex samples of 64 bits"),
    ],
)
def test_samples_that_are_not_read_are_named(tmp_path: Path, dtype: str, what: str) -> None:
    with pytest.raises(ImageError, match=f"holds {what}, which cannot be read here"):
        read_image(write(tmp_path / "x.tif", dtype))


@pytest.mark.parametrize("bits", [10, 12, 24])
def test_bits_that_are_not_read_are_named(tmp_path: Path, bits: int) -> None:
    path = with_tag(write(tmp_path / "x.tif", "uint8", planarconfig="contig"), BITS, bits)
    with pytest.raises(ImageError, match=f"holds samples of {bits} bits, which cannot be read here"):
        read_image(path)


@pytest.mark.parametrize(
    ("dtype", "colours", "what"),
    [
        ("uint16", 8, "CIELAB samples of 16 bits"),
        ("uint8", 9, "colours of the kind ICCLAB"),
        ("uint8", 32845, "colours of the kind LOGLUV"),
        ("uint16", 34892, "colours of the kind LINEAR RAW"),
        ("uint8", 99, "colours of the kind number 99"),
    ],
)
def test_colours_that_are_not_read_are_named(tmp_path: Path, dtype: str, colours: int, what: str) -> None:
    path = with_tag(write(tmp_path / "x.tif", dtype), COLOURS, colours)
    with pytest.raises(ImageError, match=f"holds {what}, which cannot be read here"):
        read_image(path)


def test_bits_that_differ_between_samples_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif")
    content = path.read_bytes()
    assert content.count(struct.pack("<3H", 8, 8, 8)) == 1
    path.write_bytes(content.replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 5, 6, 5)))
    with pytest.raises(ImageError, match="holds samples of 5, 6, 5 bits, which cannot be read here"):
        read_image(path)
    with_tag(path, COMPRESSION, 50000)
    with pytest.raises(ImageError, match="is compressed as ZSTD, which cannot be read here"):
        read_image(path)


def test_a_big_tiff_that_pillow_takes_for_no_image_is_named(tmp_path: Path) -> None:
    read_image(write(tmp_path / "x.tif", bigtiff=True, byteorder="<"))
    with pytest.raises(ImageError, match="is a BigTIFF with big-endian numbers, which cannot be read here"):
        read_image(write(tmp_path / "x.tif", bigtiff=True, byteorder=">"))


def test_a_palette_of_16_bits_is_named(tmp_path: Path) -> None:
    colours = np.zeros((3, 65536), np.uint16)
    path = write(tmp_path / "x.tif", "uint16", rgb=False, photometric="palette", colormap=colours)
    with pytest.raises(ImageError, match="has a palette of 16 bits, which cannot be read here"):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "zstd", "jpeg"])
def test_damage_is_not_blamed_on_the_kind(tmp_path: Path, compression: str | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.tif", compression=compression)
    content = (tmp_path / "x.tif").read_bytes()
    (directory,) = struct.unpack_from("<I", content, 4)
    damaged = (
        content[:8] + bytes(directory - 8) + content[directory:] if directory > 1000 else content[: len(content) // 2]
    )
    (tmp_path / "x.tif").write_bytes(damaged)
    with pytest.raises(ImageError, match="is damaged"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("tag", [(50706, "B", 4, bytes((1, 4, 0, 0))), (254, "I", 1, 1)])
def test_a_raw_photograph_is_refused_and_not_read_as_its_preview(tmp_path: Path, tag: tuple[Any, ...]) -> None:
    path = tmp_path / "x.dng"
    options: dict[str, Any] = {"subfiletype": 1} if tag[0] == 254 else {"extratags": [(*tag, True)]}
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", **options)
    with pytest.raises(ImageError, match="raw photograph"):
        read_image(path)


def test_a_tiff_of_a_photograph_says_that_it_lacks_the_exposure(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x829A] = 0.01
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif)
    metadata = read_image(tmp_path / "x.jpg").metadata
    layout = Layout(8, 8, 3, 8)
    assert "lacks exposure" in " ".join(output_notes(tmp_path / "x.tif", layout, metadata))
    assert "lacks" not in " ".join(output_notes(tmp_path / "x.png", layout, metadata))
