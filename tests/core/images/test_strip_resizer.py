"""The streaming resizer against Pillow's, against itself in one piece, and against arithmetic on paper."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.images.light import Averages, decoded, encoded
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.images.strip_resizer import StripResizer, resize

SIDES = st.integers(1, 90)
SIZES = st.tuples(SIDES, SIDES)
SHAPES = st.sampled_from([(), (1,), (2,), (3,), (4,)])
TYPES = st.sampled_from([np.uint8, np.uint16])


def noise(shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    """Return all values, and many that are black, white, clear or opaque."""
    rng, full = np.random.default_rng(sum(shape)), np.iinfo(dtype).max
    return np.clip(rng.integers(-full // 2, full + full // 2, shape), 0, full).astype(dtype)


def by_pillow(plane: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Return Pillow's antialiased cubic of one channel, whose border is continued by its mirror image."""
    margin = [int(2 * max(1, old / new)) + 2 for old, new in zip(plane.shape, (height, width), strict=True)]
    wide = np.pad(plane.astype(np.float32), [(side, side) for side in margin], "symmetric")
    box = (margin[1], margin[0], margin[1] + plane.shape[1], margin[0] + plane.shape[0])
    return np.asarray(Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC, box))


@given(SIDES, SIDES, SIDES, SIDES, TYPES)
def test_the_result_is_that_of_pillow(
    h: int, w: int, height: int, width: int, dtype: type[np.uint8] | type[np.uint16]
) -> None:
    image = noise((h, w, 3), dtype)
    expected = np.stack([by_pillow(image[:, :, channel], height, width) for channel in range(3)], axis=2)
    error = np.abs(resize(image, height, width) - expected.clip(0, np.iinfo(dtype).max))
    assert error.max() <= 0.5 + 1e-6 * np.iinfo(dtype).max


@given(SIDES, SIDES, SIDES, SIDES)
def test_bytes_are_those_of_the_whole_image_resizer(h: int, w: int, height: int, width: int) -> None:
    image = noise((h, w, 3), np.uint8)
    expected = resize_bicubic(image, height, width, round_between=False)
    np.testing.assert_array_equal(resize(image, height, width), expected)


@given(SIZES, SIZES, SHAPES, TYPES, st.booleans(), st.lists(st.integers(1, 40), min_size=1))
def test_strips_of_any_height_make_the_same_image(
    size: tuple[int, int],
    made_size: tuple[int, int],
    channels: tuple[int, ...],
    dtype: type[np.uint8] | type[np.uint16],
    linear_light: bool,
    strip_heights: list[int],
) -> None:
    image = noise((*size, *channels), dtype)
    cuts = np.cumsum(strip_heights)
    strips = [strip for strip in np.split(image, cuts[cuts < size[0]]) if len(strip)]
    resizer = StripResizer(Layout.of(image), *made_size, linear_light=linear_light)
    made = list(resizer.strips(strips))
    whole = resize(image, *made_size, linear_light=linear_light)
    assert whole.shape == (*made_size, *channels)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(np.concatenate(made), whole)


def test_rows_come_as_soon_as_their_sources_are_there_and_strips_are_let_go() -> None:
    """A result row of a half needs eight rows around it, and rows are made in blocks of sixteen."""
    resizer, given_rows = StripResizer(Layout(4000, 10, 3, 8), 2000, 5), 0

    def strips() -> Any:
        nonlocal given_rows
        for _ in range(500):
            given_rows += 8
            yield np.zeros((8, 10, 3), np.uint8)

    made = 0
    for strip in resizer.strips(strips()):
        made += len(strip)
        assert given_rows <= 2 * made + 8 + 8
    assert made == 2000


@pytest.mark.parametrize("factor", [3, 100])
@pytest.mark.parametrize(("shape", "dtype"), [((3000, 1000, 3), np.uint8), ((1000, 1000, 4), np.uint16)])
def test_it_holds_what_it_says_whatever_the_height(
    shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16], factor: int
) -> None:
    """Against NumPy's own count of its arrays."""
    strip = noise((100, *shape[1:]), dtype)
    layout = Layout(shape[0], shape[1], shape[2], strip.itemsize * 8)
    tracemalloc.start()
    try:
        resizer = StripResizer(layout, shape[0] // factor, shape[1] // factor, linear_light=True)
        for _ in resizer.strips(strip for _ in range(shape[0] // 100)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= resizer.held_bytes + (1 << 20)
    assert resizer.held_bytes < 2 * peak


@pytest.mark.parametrize(("linear_light", "grey"), [(False, 128), (True, 188)])
def test_black_and_white_lines_become_the_grey_of_half_the_light(linear_light: bool, grey: int) -> None:
    """Half of the light is sample 187.5 of sRGB: 255 * (1.055 * 0.5 ** (1 / 2.4) - 0.055)."""
    lines = np.zeros((40, 40, 3), np.uint8)
    lines[:, ::2] = 255
    result = resize(lines, 20, 20, linear_light=linear_light)
    assert (result[:, 3:-3] == grey).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_sample_is_its_own_light(dtype: type[np.uint8] | type[np.uint16]) -> None:
    """Also of transparent pixels, and at the joint of the curve, where both branches meet."""
    every = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(1, -1, 1)
    pixels = np.concatenate([every, every[:, ::-1], every, np.roll(every, 7, 1)], axis=2)
    averages = Averages(np.dtype(dtype), 4, linear_light=True)
    np.testing.assert_array_equal(averages.pixels(averages.numbers(pixels)), pixels)
    assert encoded(decoded(np.array([0.04045]))) == pytest.approx(0.04045, abs=1e-7)
    assert decoded(np.array([1.0])) == 1.0


@pytest.mark.parametrize("linear_light", [False, True])
def test_no_colour_of_transparent_pixels_shows(linear_light: bool) -> None:
    image = np.zeros((30, 30, 4), np.uint8)
    image[:, :13] = (200, 40, 10, 255)
    image[:, 13:] = (0, 255, 0, 0)
    result = resize(image, 11, 11, linear_light=linear_light)
    visible = result[:, :, 3] > 0
    assert 0 < visible.sum() < visible.size
    assert (np.unique(result[:, :, 3]).size) > 2  # the edge is between
    assert (result[visible][:, :3] == (200, 40, 10)).all()
    assert (result[:, -3:] == (0, 255, 0, 0)).all()  # what nobody sees stays as it was


@given(SIZES, SIZES, st.booleans())
def test_an_image_of_one_colour_keeps_it_whatever_its_alpha(
    size: tuple[int, int], made_size: tuple[int, int], linear_light: bool
) -> None:
    """Where weights of alpha nearly cancel out too: a renderer that filters textures shows such pixels at edges."""
    image = noise((*size, 4), np.uint8)
    image[:, :, :3] = (200, 40, 10)
    assert (resize(image, *made_size, linear_light=linear_light)[:, :, :3] == (200, 40, 10)).all()


@given(SIDES, SIDES, TYPES)
def test_colours_of_an_opaque_image_are_those_without_alpha(
    height: int, width: int, dtype: type[np.uint8] | type[np.uint16]
) -> None:
    colours = noise((40, 50, 3), dtype)
    opaque = np.dstack([colours, np.full((40, 50), np.iinfo(dtype).max, dtype)])
    result = resize(opaque, height, width)
    np.testing.assert_array_equal(result[:, :, :3], resize(colours, height, width))
    assert (result[:, :, 3] == np.iinfo(dtype).max).all()
