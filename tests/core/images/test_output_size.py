from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from drc_deploy.errors import ImageError, UsageError
from drc_deploy.images.output_size import OutputSize

SIDES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("size", "image", "result", "label"),
    [
        ({}, (30, 50), (120, 200), "x4"),
        ({"scale": 2.0}, (33, 51), (66, 102), "x2"),
        ({"scale": 1.5}, (33, 51), (50, 77), "x1.5"),
        ({"scale": 1.1}, (10, 100), (11, 110), "x1.1"),
        ({"scale": 0.001}, (10, 100), (1, 1), "x0.001"),
        ({"width": 100}, (30, 50), (60, 100), "w100"),
        ({"height": 100}, (30, 50), (100, 167), "h100"),
        ({"max_side": 100}, (30, 50), (60, 100), "max100"),
        ({"max_side": 100}, (50, 30), (100, 60), "max100"),
        ({"max_side": 1000}, (30, 50), (120, 200), "max1000"),
        ({"fit": (100, 100)}, (30, 50), (60, 100), "100x100"),
        ({"fit": (100, 45)}, (30, 50), (45, 75), "100x45"),
        ({"width": 10}, (30, 50), (6, 10), "w10"),
    ],
)
def test_sizes_keep_the_shape_of_the_image(
    size: dict[str, Any], image: tuple[int, int], result: tuple[int, int], label: str
) -> None:
    assert OutputSize(**size).of(*image, 4) == result
    assert OutputSize(**size).label(4) == label


@given(SIDES, SIDES, st.integers(1, 8000), st.integers(1, 8000), st.sampled_from([1, 2]))
def test_what_fits_a_frame_touches_it_and_keeps_its_shape(h: int, w: int, high: int, wide: int, step: int) -> None:
    assume(min(high, wide) >= step)
    factor = min(Fraction(high, h), Fraction(wide, w))
    assume(factor <= 4)
    height, width = OutputSize(fit=(wide, high)).of(h, w, 4, step=step)
    assert height % step == width % step == 0
    assert height <= high
    assert width <= wide
    assert height > high - step or width > wide - step
    assert height == step or abs(height - h * factor) <= step
    assert width == step or abs(width - w * factor) <= step


@given(SIDES, SIDES, st.integers(2, 20000), st.sampled_from([1, 2]))
def test_a_longest_side_is_never_exceeded_and_never_refused(h: int, w: int, most: int, step: int) -> None:
    height, width = OutputSize(max_side=most).of(h, w, 4, step=step)
    assert max(height, width) <= most
    assert height % step == width % step == 0


@pytest.mark.parametrize("size", [{"scale": 4.01}, {"width": 201}, {"height": 121}, {"fit": (201, 121)}])
def test_more_than_the_network_makes_is_refused_with_what_is_possible(size: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="50x30") as caught:
        OutputSize(**size).of(30, 50, 4)
    assert "at most 200x120" in caught.value.hint


@pytest.mark.parametrize(
    "size",
    [{"scale": 2.0, "width": 9}, {"width": 9, "height": 9}, {"scale": 0.0}, {"scale": float("nan")}, {"fit": (5, 0)}],
)
def test_sizes_that_cannot_be_meant_are_refused(size: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        OutputSize(**size)


def test_the_network_has_a_part_where_the_result_is_larger_or_a_factor_is_asked_for() -> None:
    assert OutputSize(width=51).needs_network(30, 50, 4)
    assert not OutputSize(width=50).needs_network(30, 50, 4)
    assert not OutputSize(max_side=40).needs_network(30, 50, 4)
    assert OutputSize(scale=1.0).needs_network(30, 50, 4)


def test_a_network_that_leaves_the_size_is_run_where_its_image_is_asked_for() -> None:
    for size in (OutputSize(), OutputSize(scale=0.5), OutputSize(width=50), OutputSize(max_side=99)):
        assert size.needs_network(30, 50, 1)
    assert not OutputSize(width=49).needs_network(30, 50, 1)
