from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.errors import UsageError
from drc_deploy.runtime.tiling.strips import rising_weights
from drc_deploy.runtime.tiling.tiles import Span, plan_axis, plan_tiles
from tests.runtime.fake_backend import fake_info


@st.composite
def axes(draw: Callable[..., int]) -> tuple[int, int, int, int]:
    """Length, side, overlap and trim of one axis."""
    side = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, (side - 1) // 2))
    return draw(st.integers(1, 200)), side, overlap, draw(st.integers(0, overlap))


def weights(spans: tuple[Span, ...], length: int) -> np.ndarray:
    """Weight of every tile in every pixel, rebuilt from the plan alone: (tiles, length)."""
    table = np.zeros((len(spans), length))
    for index, span in enumerate(spans):
        table[index, span.keep_start : span.keep_stop] = 1
        table[index, span.keep_start : span.keep_start + span.ramp] = rising_weights(span.ramp)
        if index:
            table[index - 1, span.keep_start : span.keep_start + span.ramp] -= rising_weights(span.ramp)
    return table


@given(axes())
def test_weights_of_all_tiles_add_up_to_one_in_every_pixel(axis: tuple[int, int, int, int]) -> None:
    table = weights(plan_axis(*axis), axis[0])
    assert np.allclose(table.sum(axis=0), 1, atol=1e-6)
    assert table.min() > -1e-6


@given(axes())
def test_no_pixel_within_the_trim_of_an_inner_border_is_used(axis: tuple[int, int, int, int]) -> None:
    length, _, _, trim = axis
    for span in plan_axis(*axis):
        assert span.keep_start == 0 if span.start == 0 else span.keep_start >= span.start + trim
        stop = span.start + span.size
        assert span.keep_stop == length if stop == length else span.keep_stop <= stop - trim


@given(axes())
def test_tiles_have_one_size_and_stay_inside_and_none_can_be_spared(axis: tuple[int, int, int, int]) -> None:
    length, side, overlap, _ = axis
    spans = plan_axis(*axis)
    assert {span.size for span in spans} == {min(side, length)}
    assert spans[0].start == 0
    assert spans[-1].start + spans[-1].size == length
    fewer = len(spans) - 1
    assert fewer == 0 or fewer * side - (fewer - 1) * 2 * overlap < length


@given(axes())
def test_tiles_are_evenly_spread(axis: tuple[int, int, int, int]) -> None:
    starts = [span.start for span in plan_axis(*axis)]
    steps = np.diff(starts)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_an_image_up_to_65536_pixels_is_one_tile_where_any_size_is_taken() -> None:
    plan = plan_tiles(16, 4096, fake_info(receptive_field=20))
    assert plan.tile_count == 1
    assert plan.tile == (16, 4096)


def test_a_larger_image_gets_balanced_tiles() -> None:
    plan = plan_tiles(180, 400, fake_info(receptive_field=8))
    assert plan.tile == (180, 208)
    assert plan.tile_count == 2


def test_an_engine_of_fixed_size_keeps_its_tile() -> None:
    plan = plan_tiles(100, 100, fake_info(tile=(64, 48), receptive_field=4))
    assert plan.tile == (64, 48)
    assert (len(plan.rows), len(plan.columns)) == (2, 3)


def test_attention_gets_16_pixels_of_overlap_and_room_to_blend() -> None:
    plan = plan_tiles(500, 64, fake_info(receptive_field=90, global_operations=True, tile=(128, 64)))
    first, second = plan.rows[:2]
    assert first.start + first.size - second.start >= 32
    assert second.ramp >= 16


def test_a_tile_of_another_size_than_the_engine_needs_is_refused() -> None:
    with pytest.raises(UsageError, match="64x64 only, not of 96x96"):
        plan_tiles(10, 10, fake_info(tile=(64, 64)), tile=96)


def test_a_tile_that_is_all_overlap_is_refused_only_when_several_are_needed() -> None:
    assert plan_tiles(32, 32, fake_info(), tile=32, overlap=16).tile_count == 1
    with pytest.raises(UsageError) as caught:
        plan_tiles(33, 32, fake_info(), tile=32, overlap=16)
    assert "--overlap of at most 15" in caught.value.hint
