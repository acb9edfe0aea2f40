"""Files of animations, read by other decoders: FFmpeg for GIF and APNG, libwebp by way of Pillow."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from drc_deploy.errors import OutputError
from drc_deploy.images.animation.palette import with_palette
from drc_deploy.images.animation.parts import AnimationFrame, Head
from drc_deploy.images.animation.reading import frames_of, read_animation
from drc_deploy.images.animation.ticks import Ticks
from drc_deploy.images.animation.webp import WebpWriter
from drc_deploy.images.animation.writing import Content, check_animation, write_animation
from drc_deploy.images.formats import AS_IT_IS
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.writing import write_image
from tests.core.images.animation.files import decoded_by_ffmpeg, seen

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DURATIONS = tuple(Fraction(milliseconds, 1000) for milliseconds in (100, 30, 0, 500, 10, 20))


def pictures(channels: int, height: int = 21, width: int = 33) -> list[NDArray[np.uint8]]:
    """Return six pictures of few colours that change in parts; the fourth is equal to the third."""
    rng = np.random.default_rng(channels)
    made = [rng.integers(0, 4, (height, width, channels)).astype(np.uint8) * 85]
    for step in range(1, 6):
        following = made[-1].copy()
        if step != 3:
            following[step : step + 7, 3 * step : 3 * step + 5] = rng.integers(0, 4, (7, 5, channels)) * 85
        made.append(following)
    if channels == 4:
        for picture in made:
            picture[:, :, 3] = np.where(picture[:, :, 3] > 100, 255, 0)
    return made


def content(frames: list[NDArray[np.uint8]], plays: int = 0, metadata: Metadata | None = None) -> Content:
    return Content(Layout.of(frames[0]), DURATIONS[: len(frames)], plays, metadata or Metadata())


def write(path: Path, frames: list[NDArray[np.uint8]], plays: int = 0, metadata: Metadata | None = None) -> Path:
    made = map(AnimationFrame, frames, DURATIONS)
    write_animation(path, made, content(frames, plays, metadata), saving=AS_IT_IS, replace=True)
    return path


def by_pillow(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    frames, durations = [], []
    with Image.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGBA")))
            durations.append(image.info["duration"])
    return frames, durations


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_what_a_gif_or_an_apng_holds_exactly_comes_back_exactly(tmp_path: Path, suffix: str, channels: int) -> None:
    pytest.importorskip("av")
    frames = pictures(channels)
    path = write(tmp_path / f"x{suffix}", frames)
    for ours, theirs, pillow in zip(frames, decoded_by_ffmpeg(path), by_pillow(path)[0], strict=True):
        assert np.array_equal(seen(ours), seen(theirs))
        assert np.array_equal(seen(ours), seen(pillow))


@pytest.mark.parametrize("channels", [3, 4])
def test_parts_of_a_webp_lie_where_they_belong(tmp_path: Path, channels: int) -> None:
    frames = pictures(channels)
    with (tmp_path / "x.webp").open("wb") as stream:
        writer = WebpWriter(stream, Layout.of(frames[0]), Head(2, 0, Metadata(), {"lossless": True, "exact": True}))
        writer.add(frames[0], 0, 0, Fraction(1))
        writer.add(np.ascontiguousarray(frames[1][4:9, 6:13]), 6, 4, Fraction(1))
        writer.finish()
    expected = frames[0].copy()
    expected[4:9, 6:13] = frames[1][4:9, 6:13]
    first, second = by_pillow(tmp_path / "x.webp")[0]
    assert np.array_equal(seen(first), seen(frames[0]))
    assert np.array_equal(seen(second), seen(expected))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_webp_is_near_its_pictures(tmp_path: Path, channels: int) -> None:
    # Smooth, or the loss would hide a part in the wrong place.
    x = np.linspace(0, 1, 64)
    frames = [np.dstack([np.outer(x, np.roll(x, 4 * step)) * 255] * channels).astype(np.uint8) for step in range(4)]
    path = write(tmp_path / "x.webp", frames)
    for ours, theirs in zip(frames, by_pillow(path)[0], strict=True):
        assert np.abs(seen(ours) - seen(theirs)).mean() < 3


@pytest.mark.parametrize("plays", [0, 1, 2, 7])
@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_times_and_loops_are_those_that_were_asked_for(tmp_path: Path, suffix: str, plays: int) -> None:
    path = write(tmp_path / f"x{suffix}", pictures(3), plays)
    assert by_pillow(path)[1] == [100, 30, 0, 500, 10, 20]
    with Image.open(path) as image:
        expected = (plays - 1 if plays else 0) if suffix == ".gif" else plays
        assert image.info.get("loop") == (None if (suffix, plays) == (".gif", 1) else expected)
    assert read_animation(path).plays == plays


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_metadata_is_kept(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a ball"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    metadata = Metadata(PROFILE, exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=xmp)
    path = write(tmp_path / f"x{suffix}", pictures(3), metadata=metadata)
    with Image.open(path) as image:
        image.load()
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif()[0x010E] == "a ball"
    found = read_animation(path).metadata
    assert (found.exif, found.xmp) == (metadata.exif, xmp)


def test_a_gif_of_many_colours_is_dithered_to_their_mean(tmp_path: Path) -> None:
    ramp = np.dstack(np.meshgrid(np.arange(256), np.arange(256))).astype(np.uint8)
    picture = np.dstack([ramp, np.full((256, 256), 90, np.uint8)])
    path = write(tmp_path / "x.gif", [picture, picture[::-1]])
    for ours, theirs in zip((picture, picture[::-1]), by_pillow(path)[0], strict=True):
        blocks = (ours.astype(int) - theirs[:, :, :3]).reshape(8, 32, 8, 32, 3).mean(axis=(1, 3))
        assert len(np.unique(theirs.reshape(-1, 4), axis=0)) <= 256
        assert np.abs(blocks).max() < 4


def test_256_colours_are_kept_and_neighbouring_ones_are_not_taken_for_the_same() -> None:
    pixels = np.dstack([np.arange(256).reshape(16, 16)] * 3).astype(np.uint8)
    image, transparent = with_palette(pixels)
    assert transparent is None
    assert np.array_equal(np.asarray(image.convert("RGB")), pixels)


def test_what_is_less_than_half_opaque_becomes_transparent() -> None:
    pixels = np.full((1, 4, 4), 7, np.uint8)
    pixels[0, :, 3] = (0, 127, 128, 255)
    image, transparent = with_palette(pixels)
    assert (np.asarray(image)[0] == transparent).tolist() == [True, True, False, False]
    every, transparent = with_palette(pixels[:, :2])
    assert (np.asarray(every) == transparent).all()


def test_many_colours_leave_one_for_transparency() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 4)).astype(np.uint8)
    pixels[:10, :, :3] = 0
    image, transparent = with_palette(pixels)
    assert np.array_equal(np.asarray(image) == transparent, pixels[:, :, 3] < 128)


def test_rounded_times_never_drift() -> None:
    ticks = Ticks(100)
    third = Fraction(1, 30)
    assert [ticks.of(third) for _ in range(6)] == [3, 4, 3, 3, 4, 3]
    fast = Ticks(100)
    assert [fast.of(Fraction(1, 60), least=2) for _ in range(4)] == [2, 2, 2, 2]


def test_times_that_a_format_cannot_hold_are_refused() -> None:
    long = Content(Layout(2, 2, 3, 8), (Fraction(1), Fraction(700)), 0, Metadata())
    check_animation(Path("x.png"), long, AS_IT_IS)
    check_animation(Path("x.webp"), long, AS_IT_IS)
    with pytest.raises(OutputError, match="shown for 700 s, and GIF files hold 655 s"):
        check_animation(Path("x.gif"), long, AS_IT_IS)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_an_error_in_a_later_frame_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    def failing() -> "list[AnimationFrame]":
        raise RuntimeError("network")

    frames = pictures(3)
    (tmp_path / f"x{suffix}").write_bytes(b"before")
    made = (AnimationFrame(frames[0], Fraction(1)) if number < 2 else failing()[0] for number in range(3))
    with pytest.raises(RuntimeError):
        write_animation(tmp_path / f"x{suffix}", made, content(frames), saving=AS_IT_IS, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]
    assert (tmp_path / f"x{suffix}").read_bytes() == b"before"


def test_frames_that_were_written_are_read_back(tmp_path: Path) -> None:
    frames = pictures(4)
    path = write(tmp_path / "x.png", frames)
    for ours, theirs in zip(frames, frames_of(path, read_animation(path)), strict=True):
        assert np.array_equal(seen(ours), seen(theirs.pixels))


def test_a_still_image_becomes_a_gif_too(tmp_path: Path) -> None:
    pixels = pictures(4)[0]
    write_image(tmp_path / "x.gif", [pixels], Layout.of(pixels))
    assert np.array_equal(seen(by_pillow_still(tmp_path / "x.gif")), seen(pixels))


def by_pillow_still(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"))
