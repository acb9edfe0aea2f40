"""What lies under full transparency is arbitrary, and must not be seen anywhere."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info


def upscaled(image: NDArray[Any]) -> NDArray[Any]:
    backend = FakeBackend(fake_info(receptive_field=2, io_dtype="float32"))
    return Upscaler(backend, tile=16, overlap=2)(image)


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    channels=st.sampled_from([2, 4]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    hidden=st.floats(0, 0.95),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_no_pixel_depends_on_colours_under_full_transparency(
    size: tuple[int, int], channels: int, dtype: type[np.unsignedinteger[Any]], hidden: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)
    transparent = random.random(size) < hidden
    transparent.flat[random.integers(transparent.size)] = False  # one pixel at least can be seen
    image[:, :, -1][transparent] = 0
    image[:, :, -1][~transparent] |= 1
    other = image.copy()
    other[:, :, :-1][transparent] = random.integers(0, 255, channels - 1, dtype)
    assert np.array_equal(upscaled(image), upscaled(other))


def test_visible_colours_do_count_however_transparent_they_are() -> None:
    image = np.full((6, 6, 4), (10, 20, 30, 1), np.uint8)
    other = image.copy()
    other[3, 3, :3] = 200
    assert not np.array_equal(upscaled(image), upscaled(other))


def test_an_image_that_is_all_transparent_stays_so() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 4), np.uint8)
    image[:, :, 3] = 0
    assert (upscaled(image)[:, :, 3] == 0).all()
