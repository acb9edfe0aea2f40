import io
import struct
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.images import png_stream
from drc_deploy.images.formats import check_output
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout, PngStream
from drc_deploy.images.reading import read_image
from drc_deploy.images.tags.exif import PREFIX
from drc_deploy.images.writing import write_image


def noise(*shape: int, bits: int = 8) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, 2**bits, shape).astype(f"uint{bits}")


def streamed(image: NDArray[Any], cuts: list[int]) -> bytes:
    """Return a PNG of an image that comes in strips."""
    buffer = io.BytesIO()
    png = PngStream(buffer, Layout.of(image))
    for strip in np.split(image, cuts):
        png.write(strip)
    png.finish()
    return buffer.getvalue()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3, 4]),
    bits=st.sampled_from([8, 16]),
    cut=st.integers(0, 20),
    deflate=st.sampled_from([vars(png_stream)["deflate"], zlib]),
)
def test_opencv_reads_from_a_streamed_png_what_was_written(
    size: tuple[int, int], channels: int, bits: int, cut: int, deflate: ModuleType
) -> None:
    image = noise(*size, channels, bits=bits)
    buffer = io.BytesIO()
    with patch.object(png_stream, "deflate", deflate):
        png = PngStream(buffer, Layout.of(image))
        for strip in (image[:cut], image[cut:]):
            if len(strip):
                png.write(strip)
        png.finish()
    decoded = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    assert np.array_equal(decoded.reshape(image.shape)[:, :, order], image)


def test_a_png_does_not_depend_on_the_strips_in_which_it_comes() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        height, width = rng.integers(20, 400, 2)
        image = np.cumsum(rng.integers(-2, 3, (height, width, 3)), axis=1).astype(np.uint8)
        whole, cut = streamed(image, []), streamed(image, sorted(rng.integers(1, height, 3)))
        assert whole == cut


def test_pillow_reads_a_streamed_png_with_its_profile(tmp_path: Path) -> None:
    image, profile = noise(6, 5, 2), PROFILE[:16] + b"GRAY" + PROFILE[20:]
    write_image(tmp_path / "x.png", [image[:2], image[2:]], Layout.of(image), Metadata(profile))
    with Image.open(tmp_path / "x.png") as opened:
        assert opened.mode == "LA"
        assert opened.info["icc_profile"] == profile
        assert np.array_equal(np.asarray(opened), image)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
def test_an_image_with_missing_rows_is_never_finished(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"2 rows \w+( \w+)? of 6"):
        write_image(tmp_path / name, [noise(2, 5)], Layout(6, 5, 1, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "shape", "bits"),
    [
        ("x.png", (6, 5, 4), 16),
        ("x.tif", (6, 5), 16),
        ("x.tif", (6, 5, 3), 16),
        ("x.tiff", (6, 5, 4), 16),
        ("x.tif", (6, 5, 2), 8),
        ("x.bmp", (6, 5, 3), 8),
        ("x.bmp", (6, 5), 8),
    ],
)
def test_lossless_formats_give_back_what_was_written(
    tmp_path: Path, name: str, shape: tuple[int, ...], bits: int
) -> None:
    image = noise(*shape, bits=bits)
    write_image(tmp_path / name, [image[:1], image[1:]], Layout.of(image))
    assert np.array_equal(read_image(tmp_path / name).pixels, image)


@pytest.mark.parametrize("name", ["x.jpg", "x.webp", "x.avif"])
def test_lossy_formats_stay_close_and_keep_the_profile(tmp_path: Path, name: str) -> None:
    image = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    write_image(tmp_path / name, [image], Layout.of(image), Metadata(PROFILE))
    picture = read_image(tmp_path / name)
    assert np.abs(picture.pixels.astype(int) - image).max() <= 4
    assert picture.metadata.icc_profile == PROFILE


@pytest.mark.parametrize(
    ("name", "layout", "with_profile", "message"),
    [
        ("x.jpg", Layout(4, 4, 4, 8), False, "transparency"),
        ("x.bmp", Layout(4, 4, 2, 8), False, "transparency"),
        ("x.bmp", Layout(4, 4, 3, 8), True, "colour profile"),
        ("x.avif", Layout(20000, 20000, 3, 8), False, "too many"),
        ("x.avif", Layout(40000, 4, 3, 8), False, "4x40000 pixels"),
        ("x.webp", Layout(20000, 4, 3, 8), False, "4x20000 pixels"),
        ("x.jpeg", Layout(4, 70000, 3, 8), False, "70000x4 pixels"),
        ("x.tif", Layout(40000, 40000, 3, 8), False, "too many"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_a_way_out(
    name: str, layout: Layout, with_profile: bool, message: str
) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        check_output(Path(name), layout, Metadata(PROFILE if with_profile else None))
    assert ".png" in caught.value.hint


def test_png_holds_everything_of_any_size() -> None:
    check_output(Path("x.png"), Layout(10**6, 10**6, 4, 16), Metadata(PROFILE))


def test_an_unknown_suffix_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"x\.jxl does not end as an image does"):
        check_output(Path("x.jxl"), Layout(1, 1, 1, 8))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_image(tmp_path / "file" / "x.png", [noise(2, 2)], Layout(2, 2, 1, 8))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif", "x.bmp", "x.webp", "x.avif"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target = tmp_path / name
    target.write_bytes(b"older")
    real_open = Path.open

    def open_on_a_full_disk(path: Path, mode: str = "r", *arguments: Any) -> Any:
        return real_open(Path("/dev/full") if mode == "wb" else path, mode, *arguments)

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    image = noise(300, 300, 3)
    with pytest.raises(OutputError, match="No space left"):
        write_image(target, [image], Layout.of(image))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert target.read_bytes() == b"older"


def exif() -> bytes:
    fields = Image.Exif()
    fields[MAKE] = "Camera Works"
    fields[EXIF_DIRECTORY] = {TIME_TAKEN: "2020:01:02 03:04:05"}
    return fields.tobytes().removeprefix(PREFIX)


MAKE, EXIF_DIRECTORY, TIME_TAKEN = 0x010F, 0x8769, 0x9003


@pytest.mark.parametrize(
    ("name", "bits"),
    [("x.png", 8), ("x.png", 16), ("x.tif", 8), ("x.tif", 16), ("x.jpg", 8), ("x.webp", 8), ("x.avif", 8)],
)
def test_metadata_arrive_where_the_format_holds_them(tmp_path: Path, name: str, bits: int) -> None:
    image = noise(6, 5, 3, bits=bits)
    metadata = Metadata(PROFILE, (300.0, 200.0), exif())
    write_image(tmp_path / name, [image], Layout.of(image), metadata)
    with Image.open(tmp_path / name) as written:
        written.load()
        assert written.info["icc_profile"] == PROFILE
        assert written.getexif()[MAKE] == "Camera Works"
        if name not in {"x.webp", "x.avif"}:
            assert written.info["dpi"] == pytest.approx((300, 200), abs=0.01)
        if name != "x.tif":
            assert written.getexif().get_ifd(EXIF_DIRECTORY)[TIME_TAKEN] == "2020:01:02 03:04:05"


def test_an_exif_that_is_too_large_for_a_jpeg_is_left_out(tmp_path: Path) -> None:
    image = noise(6, 5, 3)
    large = exif() + bytes(65536)
    for name, kept in (("x.png", True), ("x.jpg", False)):
        write_image(tmp_path / name, [image], Layout.of(image), Metadata(exif=large))
        with Image.open(tmp_path / name) as written:
            assert (MAKE in written.getexif()) == kept


def test_image_data_is_split_over_chunks_that_all_check(tmp_path: Path) -> None:
    image = noise(400, 400, 3)
    write_image(tmp_path / "x.png", (image[row : row + 1] for row in range(400)), Layout.of(image))
    content, kinds, position = (tmp_path / "x.png").read_bytes(), [], 8
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kinds.append(content[position + 4 : position + 8])
        position += length + 12
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert kinds.count(b"IDAT") > 1
    assert np.array_equal(read_image(tmp_path / "x.png").pixels, image)
