"""Frames of animations, against a second decoder and against what is known of the parts."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.animation.parts import AnimationFrame
from drc_deploy.images.animation.reading import Animation, frames_of, is_animation, read_animation
from drc_deploy.images.animation.writing import Content, write_animation
from drc_deploy.images.formats import AS_IT_IS, output_notes
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.reading import read_image
from drc_deploy.images.writing import write_image
from tests.core.images.animation.files import (
    PALETTE,
    GifPart,
    PngPart,
    decoded_by_ffmpeg,
    seen,
    write_apng,
    write_gif,
)
from tests.core.images.png_files import chunk

WIDTH, HEIGHT = 12, 9


def read(path: Path) -> tuple[Animation, list[NDArray[np.uint8]]]:
    animation = read_animation(path)
    return animation, [frame.pixels for frame in frames_of(path, animation)]


def place(rng: np.random.Generator, number: int) -> tuple[int, int, int, int]:
    """Return x, y, width and height of a part; the first covers the canvas."""
    if number == 0:
        return 0, 0, WIDTH, HEIGHT
    x, y = (int(rng.integers(0, side - 2)) for side in (WIDTH, HEIGHT))
    return x, y, int(rng.integers(1, WIDTH - x + 1)), int(rng.integers(1, HEIGHT - y + 1))


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_a_gif_are_laid_over_each_other_as_ffmpeg_does(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("av")
    rng, parts = np.random.default_rng(seed), []
    for number in range(6):
        x, y, width, height = place(rng, number)
        numbers = rng.integers(0, 4, (height, width)).astype(np.uint8)
        # Where a part has no transparent colour, FFmpeg clears it with the background, and no browser does.
        parts.append(GifPart(numbers, x, y, int(rng.integers(0, 4)), int(rng.integers(0, 4))))
    path = write_gif(tmp_path / "x.gif", WIDTH, HEIGHT, parts)
    for ours, theirs in zip(read(path)[1], decoded_by_ffmpeg(path), strict=True):
        assert np.array_equal(seen(ours), seen(theirs))


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_an_apng_are_laid_over_each_other_as_ffmpeg_does(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("av")
    rng, parts = np.random.default_rng(seed), []
    for number in range(6):
        x, y, width, height = place(rng, number)
        pixels = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
        parts.append(PngPart(pixels, x, y, int(rng.integers(0, 3)), int(rng.integers(0, 2))))
    path = write_apng(tmp_path / "x.png", WIDTH, HEIGHT, parts)
    for ours, theirs in zip(read(path)[1], decoded_by_ffmpeg(path), strict=True):
        assert np.abs(seen(ours) - seen(theirs)).max() <= 2  # each rounds in its own way


def test_a_half_transparent_part_leaves_what_is_opaque_opaque(tmp_path: Path) -> None:
    red, blue = np.full((2, 2, 4), (255, 0, 0, 255), np.uint8), np.full((2, 2, 4), (0, 0, 255, 128), np.uint8)
    path = write_apng(tmp_path / "x.png", 2, 2, [PngPart(red), PngPart(blue, over=1)])
    animation, frames = read(path)
    assert not animation.alpha
    assert frames[1][0, 0].tolist() == [127, 0, 128]


def test_nothing_of_a_gif_is_filled_with_the_background_colour(tmp_path: Path) -> None:
    whole, small = np.full((4, 4), 1, np.uint8), np.full((2, 2), 3, np.uint8)
    path = write_gif(tmp_path / "x.gif", 4, 4, [GifPart(small, 1, 1, 2), GifPart(small, 2, 2, 0), GifPart(whole)])
    first, second, third = read(path)[1]
    inside = np.zeros((4, 4), np.bool_)
    inside[1:3, 1:3] = True
    assert np.array_equal(first[:, :, 3] == 255, inside)
    assert np.array_equal(second[:, :, 3] == 255, np.roll(inside, (1, 1), (0, 1)))
    assert (third == (*PALETTE[1], 255)).all()


def test_a_part_without_a_disposal_stays_after_one_that_was_cleared(tmp_path: Path) -> None:
    small = np.full((1, 1), 3, np.uint8)
    parts = [GifPart(small, 0, 0, 2), GifPart(small, 1, 0, 0), GifPart(small, 2, 0, 0)]
    frames = read(write_gif(tmp_path / "x.gif", 3, 1, parts))[1]
    assert [frame[0, :, 3].tolist() for frame in frames] == [[255, 0, 0], [0, 255, 0], [0, 255, 255]]


def test_the_canvas_of_a_gif_grows_to_its_first_part_and_cuts_the_others(tmp_path: Path) -> None:
    part = np.full((5, 6), 1, np.uint8)
    path = write_gif(tmp_path / "x.gif", 2, 2, [GifPart(part), GifPart(part, 4, 3), GifPart(part, 40, 30)])
    animation, frames = read(path)
    assert (animation.height, animation.width) == (5, 6)
    assert [frame.shape for frame in frames] == [(5, 6, 3)] * 3


def test_a_default_image_is_no_part_of_the_animation(tmp_path: Path) -> None:
    parts = [PngPart(np.full((2, 2, 3), level, np.uint8)) for level in (10, 20)]
    path = write_apng(tmp_path / "x.png", 2, 2, parts, default=np.full((2, 2, 3), 99, np.uint8))
    assert [int(frame[0, 0, 0]) for frame in read(path)[1]] == [10, 20]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_apng_becomes_8_bits_of_rgb(
    tmp_path: Path, shape: tuple[int, ...], dtype: type[np.uint8 | np.uint16]
) -> None:
    full = np.iinfo(dtype).max
    pixels: NDArray[Any] = np.random.default_rng(0).integers(0, full + 1, shape).astype(dtype)
    path = write_apng(tmp_path / "x.png", 3, 2, [PngPart(pixels), PngPart(pixels[::-1])])
    planes = np.atleast_3d(np.rint(pixels / full * 255))
    expected = planes.repeat(3, axis=2) if planes.shape[2] == 1 else planes
    assert np.array_equal(read(path)[1][0], expected)


def test_times_are_exact_and_zero_stays_zero(tmp_path: Path) -> None:
    pixels = np.zeros((1, 1, 3), np.uint8)
    delays = [(1, 30), (0, 100), (7, 0), (65535, 1000)]
    path = write_apng(tmp_path / "x.png", 1, 1, [PngPart(pixels, delay=delay) for delay in delays])
    assert read(path)[0].durations == (Fraction(1, 30), Fraction(0), Fraction(7, 100), Fraction(65535, 1000))
    numbers = np.zeros((1, 1), np.uint8)
    path = write_gif(tmp_path / "x.gif", 1, 1, [GifPart(numbers, ticks=ticks) for ticks in (0, 1, 65535)])
    assert read(path)[0].durations == (Fraction(0), Fraction(1, 100), Fraction(65535, 100))


@pytest.mark.parametrize(("loops", "plays"), [(None, 1), (0, 0), (1, 2), (65535, 65536)])
def test_a_gif_repeats_its_loops_after_the_first_time(tmp_path: Path, loops: int | None, plays: int) -> None:
    part = GifPart(np.zeros((1, 1), np.uint8))
    assert read(write_gif(tmp_path / "x.gif", 1, 1, [part, part], loops))[0].plays == plays


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_webp_and_avif_are_read(tmp_path: Path, suffix: str) -> None:
    levels = (20, 120, 220)
    first, *others = (Image.new("RGB", (8, 8), (level, level, level)) for level in levels)
    how = {"lossless": True} if suffix == ".webp" else {"quality": 100}
    first.save(tmp_path / f"x{suffix}", save_all=True, append_images=others, duration=[40, 70, 1000], **how)
    animation, frames = read(tmp_path / f"x{suffix}")
    assert [int(np.rint(frame.mean())) for frame in frames] == list(levels)
    assert animation.durations == (Fraction(40, 1000), Fraction(70, 1000), Fraction(1))


def test_a_still_image_is_no_animation(tmp_path: Path) -> None:
    for suffix in (".png", ".gif", ".webp", ".avif", ".jpg"):
        Image.new("RGB", (2, 2)).save(tmp_path / f"x{suffix}")
        assert not is_animation(tmp_path / f"x{suffix}")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    assert not is_animation(tmp_path / "broken.gif")
    assert not is_animation(tmp_path / "nothing.gif")


def noisy(count: int, side: int = 40) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 4, (count, side, side)).astype(np.uint8))


def damaged(path: Path) -> Path:
    """Return a GIF or an APNG of four frames; the third is overwritten in the middle."""
    frames = noisy(4)
    if path.suffix == ".gif":
        write_gif(path, 40, 40, [GifPart(numbers) for numbers in frames])
    else:
        write_apng(path, 40, 40, [PngPart(numbers) for numbers in frames])
    content = bytearray(path.read_bytes())
    middle = len(content) * 5 // 8
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_damage_is_named_by_its_frame_and_the_frames_before_it_can_be_taken(tmp_path: Path, suffix: str) -> None:
    path = damaged(tmp_path / f"x{suffix}")
    with pytest.raises(ImageError, match=r"frame 3 of .*x\.... is damaged") as caught:
        read_animation(path)
    assert "--tolerant" in caught.value.hint
    animation = read_animation(path, tolerant=True)
    assert len(list(frames_of(path, animation))) == len(animation.durations) == 2
    assert any("Only the frames before it are used: 2" in note for note in animation.notes)


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_wherever_a_file_ends_early_it_has_some_frames_or_an_error(tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"x{suffix}"
    frames = noisy(3, side=5)
    if suffix == ".gif":
        write_gif(whole, 5, 5, [GifPart(numbers) for numbers in frames])
    else:
        write_apng(whole, 5, 5, [PngPart(numbers) for numbers in frames])
    content, counts = whole.read_bytes(), set()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            counts.add(len(read_animation(path, tolerant=True).durations))
        except ImageError:
            counts.add(0)
    assert counts == {0, 1, 2, 3}


def test_a_webp_that_ends_early_has_the_frames_before(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(picture * 60).convert("RGB") for picture in noisy(3, side=8))
    exif = Image.Exif()
    exif[0x010E] = "a ball"
    first.save(tmp_path / "whole.webp", save_all=True, append_images=others, duration=10, lossless=True, exif=exif)
    content, counts, path = (tmp_path / "whole.webp").read_bytes(), [], tmp_path / "x.webp"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            animation = read_animation(path, tolerant=True)
            assert len(list(frames_of(path, animation))) == len(animation.durations)
            counts.append(len(animation.durations))
        except ImageError:
            counts.append(0)
    assert sorted(set(counts)) == [0, 1, 2, 3]
    assert counts == sorted(counts)
    path.write_bytes(content[: counts.index(2)])
    assert is_animation(path)
    with pytest.raises(ImageError, match=r"x\.webp ends early, after 2 frames") as caught:
        read_animation(path)
    assert "--tolerant" in caught.value.hint


def test_a_part_outside_of_an_apng_is_damage(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    path = write_apng(tmp_path / "x.png", 2, 2, [PngPart(pixels), PngPart(pixels, x=1)])
    with pytest.raises(ImageError, match=r"frame 2 of .* lies outside"):
        read_animation(path)


def test_an_apng_that_lacks_frames_is_damaged(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    path = write_apng(tmp_path / "x.png", 2, 2, [PngPart(pixels), PngPart(pixels)])
    content = path.read_bytes()
    more = chunk(b"acTL", struct.pack(">II", 3, 0))
    path.write_bytes(content.replace(chunk(b"acTL", struct.pack(">II", 2, 0)), more))
    with pytest.raises(ImageError, match="frame 3 of"):
        read_animation(path)


def test_a_part_that_promises_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "x.gif", 2, 2, [GifPart(np.zeros((2, 2), np.uint8))] * 2)
    content = path.read_bytes()
    place = content.rindex(b",\0\0\0\0\2\0\2\0")
    path.write_bytes(content[:place] + b",\0\0\0\0\xff\xff\xff\xff" + content[place + 9 :])
    with pytest.raises(ImageError, match=r"frame 2 of .* is too large"):
        read_animation(path)


def test_many_frames_are_found_without_holding_them(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "x.gif", 1, 1, [GifPart(np.zeros((1, 1), np.uint8), ticks=1)] * 5000)
    assert sum(read_animation(path).durations) == 50


def test_colours_can_be_converted_to_srgb_and_laid_on_a_background(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (200, 100, 50, 255), np.uint8)
    clear = pixels.copy()
    clear[0, 0, 3] = 0
    path = write_apng(tmp_path / "x.png", 2, 2, [PngPart(pixels), PngPart(clear)])
    animation = read_animation(path)
    on_blue = animation.on((0, 0, 255))
    assert [frame.pixels[0, 0].tolist() for frame in frames_of(path, on_blue)] == [[200, 100, 50], [0, 0, 255]]
    # Now the samples mean light itself.
    content = path.read_bytes()
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    path.write_bytes(content[:33] + gamma + content[33:])
    linear = read_animation(path)
    converted = next(frames_of(path, linear.in_srgb("x"))).pixels[0, 0, :3]
    light = np.array([200, 100, 50]) / 255
    assert np.abs(converted - 255 * (1.055 * light ** (1 / 2.4) - 0.055)).max() <= 1


def test_frames_are_turned_upright(tmp_path: Path) -> None:
    first = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10)
    exif = Image.Exif()
    exif[0x0112] = 6
    first.save(
        tmp_path / "x.webp", save_all=True, append_images=[first.rotate(180)], duration=10, lossless=True, exif=exif
    )
    animation, frames = read(tmp_path / "x.webp")
    assert (animation.height, animation.width) == (4, 2)
    assert np.array_equal(frames[0], np.rot90(np.asarray(first), -1))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_the_comment_of_a_gif_is_kept_or_missed(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], comment=b"by hand, caf\xe9 " * 30)
    metadata = read_animation(tmp_path / "x.gif").metadata
    layout, path = Layout(2, 2, 3, 8), tmp_path / f"o{suffix}"
    content = Content(layout, (Fraction(1),), 1, metadata)
    write_animation(path, [AnimationFrame(np.asarray(frames[0]), Fraction(1))], content, saving=AS_IT_IS, replace=True)
    write_image(tmp_path / f"still{suffix}", [np.asarray(frames[0])], layout, metadata)
    missed = any("lacks the texts ('Comment')" in note for note in output_notes(path, layout, metadata))
    assert missed == (suffix == ".webp")
    for written in (path, tmp_path / f"still{suffix}"):
        with Image.open(written) as image:
            image.load()
            kept = image.info.get("Comment", "").encode("latin-1") or image.info.get("comment")
        assert kept == (None if missed else b"by hand, caf\xe9 " * 30)


def test_the_first_frame_alone_is_still_read_with_a_note(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "x.gif", 2, 2, [GifPart(np.zeros((2, 2), np.uint8))] * 3)
    assert any("has 3 frames: only the first is used" in note for note in read_image(path).notes)
    assert not read_animation(path).notes
