"""Networks that see their input in windows: tiles lie on the grid of the windows, and nothing else changes."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc_deploy.bench.measure.fidelity import measure_seam
from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import UsageError
from drc_deploy.runtime.backends.contract import Pixels, check_batch
from drc_deploy.runtime.memory.host import MemoryBudget
from drc_deploy.runtime.tiling.memory_plan import Images, fit_plan
from drc_deploy.runtime.tiling.memory_probe import measure_bytes_per_pixel
from drc_deploy.runtime.tiling.strips import input_tile, rising_weights
from drc_deploy.runtime.tiling.tiles import Span, TilePlan, plan_axis, plan_tiles
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest, write_windows

SCALE, REACH = 2, 2


def window_info(multiple_of: int, minimum: int = 1, **changes: object) -> EngineInfo:
    """Describe a network that sees its window and ``REACH`` pixels around it."""
    sees = multiple_of - 1 + REACH
    info = fake_info(scale=SCALE, receptive_field=sees)
    return replace(info, multiple_of=multiple_of, minimum=minimum, **changes)  # type: ignore[arg-type]


class WindowBackend(FakeBackend):
    """Adds to every pixel the mean of its window, then a box filter of ``REACH`` with zeros outside, then enlarges.

    A window that begins elsewhere has another mean: the result depends on where a tile lies.
    """

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        check_batch(batch, self.info)
        self.calls.append(batch.shape)
        return np.stack([windowed(tile, self.info.multiple_of) for tile in batch])


def windowed(tile: Pixels, window: int) -> Pixels:
    """Compute what ``WindowBackend`` does of one tile, (H, W, 3) uint8."""
    height, width = tile.shape[0] // window, tile.shape[1] // window
    means = tile.reshape(height, window, width, window, 3).mean(axis=(1, 3))
    mixed = (tile + means.repeat(window, axis=0).repeat(window, axis=1)) / 2
    side = 2 * REACH + 1
    around = np.pad(np.floor(mixed), ((REACH, REACH), (REACH, REACH), (0, 0)))
    boxes = np.lib.stride_tricks.sliding_window_view(around, (side, side), axis=(0, 1)).sum(axis=(-2, -1))
    result: Pixels = np.floor(boxes / side**2).astype(np.uint8)
    return result.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def untiled(image: Pixels, info: EngineInfo) -> Pixels:
    """Compute the result for an image without this package's tiler: padded by NumPy, and cropped."""
    height, width = image.shape[:2]
    sides = [next(side for side in range(info.minimum, 10**4) if side >= length and side % info.multiple_of == 0)
             for length in (height, width)]  # fmt: skip
    padded = np.pad(image, ((0, sides[0] - height), (0, sides[1] - width), (0, 0)), mode="reflect")
    return windowed(padded, info.multiple_of)[: SCALE * height, : SCALE * width]


@pytest.mark.parametrize("size", [(61, 83), (5, 40), (1, 1), (2, 90), (64, 64), (65, 57), (100, 129)])
@pytest.mark.parametrize(("multiple_of", "minimum"), [(8, 1), (8, 30), (5, 1), (1, 24)])
@pytest.mark.parametrize("tile", [None, 32, 39, 56])
def test_tiles_equal_the_whole_image(size: tuple[int, int], multiple_of: int, minimum: int, tile: int | None) -> None:
    image = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    backend = WindowBackend(window_info(multiple_of, minimum))
    result = Upscaler(backend, tile=tile)(image)
    assert np.array_equal(result, untiled(image, backend.info))
    for shape in backend.calls:
        assert all(side % multiple_of == 0 and side >= minimum for side in shape[1:3])


@pytest.mark.parametrize("size", [(61, 83), (5, 40), (1, 1)])
def test_tiles_of_fixed_size_equal_the_whole_image_but_where_it_ends(size: tuple[int, int]) -> None:
    """There the tile may go on for longer than the whole image does, which has zeros instead."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    backend = WindowBackend(window_info(8, tile=(32, 40)))
    result, expected = Upscaler(backend)(image), untiled(image, window_info(8))
    inner = tuple(slice(0, SCALE * min(side, -(-side // 8) * 8 - REACH)) for side in size)
    assert np.array_equal(result[inner], expected[inner])
    assert {shape[1:3] for shape in backend.calls} == {(32, 40)}


@pytest.mark.parametrize("size", [(57, 13), (1, 9), (2, 30)])
def test_what_continues_an_image_does_not_depend_on_the_tiles(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    backend = FakeBackend(window_info(8))
    padded = np.pad(image, (*((0, -side % 8) for side in size), (0, 0)), mode="reflect")
    plan = plan_tiles(*size, backend.info, tile=8, overlap=0)
    for row in plan.rows:
        for column in plan.columns:
            expected = padded[row.start : row.start + 8, column.start : column.start + 8]
            assert np.array_equal(input_tile(backend, image, plan.tile, row, column), expected)


def test_a_network_with_windows_has_no_seams_in_a_report() -> None:
    image = np.random.default_rng(0).integers(0, 256, (72, 90, 3), np.uint8)
    found = measure_seam(WindowBackend(window_info(8)), image)
    assert found.tiles > 1
    assert found.difference is not None
    assert found.difference.max_levels == 0
    small = measure_seam(WindowBackend(window_info(8, 64)), image[:3, :5])
    assert small.tiles == 1


@st.composite
def axes(draw: Callable[..., int]) -> tuple[int, int, int, int, int]:
    """Length, side, overlap, trim and grid of one axis."""
    grid = draw(st.integers(1, 12))
    side = grid * draw(st.integers(1, 12))
    overlap = draw(st.integers(0, (side - grid) // 2))
    return draw(st.integers(1, 400)), side, overlap, draw(st.integers(0, overlap)), grid


@given(axes())
def test_tiles_lie_on_the_grid_and_cover_the_image_and_none_can_be_spared(axis: tuple[int, int, int, int, int]) -> None:
    length, side, overlap, trim, grid = axis
    spans = plan_axis(*axis)
    end = max(-(-length // grid) * grid, side)
    starts = [span.start for span in spans]
    assert all(start % grid == 0 for start in starts)
    assert (starts[0], starts[-1] + side) == (0, end)
    assert all(before + side - after >= 2 * overlap for before, after in pairwise(starts))
    for span in spans:
        assert span.size == min(side, length - span.start)
        assert span.start <= span.keep_start < span.keep_stop <= min(span.start + side, length)
        assert span.start == 0 or span.keep_start >= span.start + trim
        assert span.keep_stop == length or span.keep_stop <= span.start + side - trim
    # A reach of tiles, one less, with the longest steps that the overlap and the grid allow.
    longest = (side - 2 * overlap) // grid * grid
    assert len(spans) == 1 or side + (len(spans) - 2) * longest < end


@given(axes())
def test_weights_of_all_tiles_add_up_to_one_in_every_pixel(axis: tuple[int, int, int, int, int]) -> None:
    total = np.zeros(axis[0])
    for span, after in zip(spans := plan_axis(*axis), [*spans[1:], None], strict=True):
        weights = np.ones(span.keep_stop - span.keep_start)
        weights[: span.ramp] = rising_weights(span.ramp)
        if after is not None and after.ramp:
            assert after.keep_start + after.ramp == span.keep_stop
            weights[-after.ramp :] *= 1 - rising_weights(after.ramp)
        total[span.keep_start : span.keep_stop] += weights
    assert np.allclose(total, 1, atol=1e-6)


@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    multiple_of=st.integers(1, 64),
    minimum=st.integers(1, 128),
    tile=st.none() | st.integers(1, 400),
    reach=st.integers(0, 60),
    attention=st.booleans(),
)
def test_every_plan_gives_the_network_sides_that_it_takes(
    height: int, width: int, multiple_of: int, minimum: int, tile: int | None, reach: int, attention: bool
) -> None:
    info = replace(
        fake_info(receptive_field=reach, global_operations=attention), multiple_of=multiple_of, minimum=minimum
    )
    least = -(-minimum // multiple_of) * multiple_of
    if tile is not None and tile < least:
        with pytest.raises(UsageError, match=f"no tile smaller than {least} pixels"):
            plan_tiles(height, width, info, tile=tile)
        return
    plan = plan_tiles(height, width, info, tile=tile)
    for side, spans, length in zip(plan.tile, (plan.rows, plan.columns), (height, width), strict=True):
        assert side % multiple_of == 0
        assert side >= minimum
        assert tile is None or side <= tile
        assert all(span.start % multiple_of == 0 for span in spans)
        assert spans[-1].keep_stop == length


@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    reach=st.integers(0, 60),
    attention=st.booleans(),
    tile=st.none() | st.integers(80, 400),
    overlap=st.none() | st.integers(0, 39),
    fixed=st.none() | st.tuples(st.integers(80, 300), st.integers(80, 300)),
)
def test_a_network_that_takes_any_side_is_planned_without_a_grid(
    height: int,
    width: int,
    reach: int,
    attention: bool,
    tile: int | None,
    overlap: int | None,
    fixed: tuple[int, int] | None,
) -> None:
    info = fake_info(receptive_field=reach, global_operations=attention, tile=fixed)
    tile = None if fixed else tile
    plan = plan_tiles(height, width, info, tile=tile, overlap=overlap)
    assert plan == plan_without_grid(height, width, info, tile, overlap)


def plan_without_grid(height: int, width: int, info: EngineInfo, tile: int | None, overlap: int | None) -> TilePlan:
    """Plan as this program did before it knew networks with windows."""
    if info.tile:
        sides = info.tile
    elif tile is None and height * width <= 65536:
        sides = (height, width)
    else:
        sides = (tile or 256, tile or 256)
    reach = info.receptive_field
    if overlap is None:
        overlap = min(reach, 8 if info.global_operations else reach, min(sides) // 4)
    exact = not info.global_operations and overlap >= reach
    trim = reach if exact else min(reach, overlap // 2)

    def count(length: int, side: int) -> int:
        return 1 if length <= side else math.ceil((length - 2 * overlap) / (side - 2 * overlap))

    def balanced(length: int, side: int) -> int:
        tiles = count(length, side)
        return math.ceil((length + 2 * overlap * (tiles - 1)) / tiles)

    def axis(length: int, side: int) -> tuple[Span, ...]:
        if length <= side:
            return (Span(0, length, 0, length, 0),)
        tiles = count(length, side)
        starts = [index * (length - side) // (tiles - 1) for index in range(tiles)]
        step = min(after - before for before, after in pairwise(starts))
        ramps = [min(before + side - after - 2 * trim, step) for before, after in pairwise(starts)]
        begins = [(a + b + side - ramp) // 2 for (a, b), ramp in zip(pairwise(starts), ramps, strict=True)]
        keeps = [0, *begins], [*(begin + ramp for begin, ramp in zip(begins, ramps, strict=True)), length]
        return tuple(Span(*numbers) for numbers in zip(starts, [side] * tiles, *keeps, [0, *ramps], strict=True))

    if not info.tile:
        sides = (balanced(height, sides[0]), balanced(width, sides[1]))
    return TilePlan(sides, axis(height, sides[0]), axis(width, sides[1]))


def test_the_grid_and_what_neighbours_share_are_seen_in_a_plan() -> None:
    """By hand: 195 pixels go on to 200, two overlaps of 9 are 24 on the grid, and three tiles of 81 become 88."""
    plan = plan_tiles(195, 195, window_info(8), tile=90, overlap=9)
    assert plan.tile == (88, 88)
    assert [span.start for span in plan.rows] == [0, 56, 112]
    assert [span.size for span in plan.rows] == [88, 88, 83]


def test_a_tile_that_is_all_overlap_on_the_grid_is_refused_with_one_that_is_not() -> None:
    info = window_info(8)
    with pytest.raises(UsageError) as caught:
        plan_tiles(200, 200, info, tile=30, overlap=9)
    assert caught.value.hint == "Give --tile at least 32, or an --overlap of at most 8."
    assert plan_tiles(200, 200, info, tile=32, overlap=9).tile == (32, 32)
    assert plan_tiles(200, 200, info, tile=30, overlap=8).tile == (24, 24)


@given(height=st.integers(1, 2000), width=st.integers(1, 2000), megabytes=st.integers(20, 2000))
@settings(deadline=None)
def test_tiles_that_fit_into_memory_are_ones_that_the_network_takes(height: int, width: int, megabytes: int) -> None:
    info = window_info(32, 40, cpu_bytes_per_pixel=6_000, params=200_000)
    budget = MemoryBudget(megabytes << 20, 0)
    with suppress(UsageError):
        fitted = fit_plan(Images(height, width), info, budget, 4)
        assert all(side % 32 == 0 and side >= 64 for side in fitted.plan.tile)


def test_a_graph_that_fails_on_other_sides_runs_on_images_of_all_sizes(tmp_path: Path) -> None:
    """Also where memory is given back, which takes a run of the smallest image, and where it is measured."""
    path = tmp_path / "windows.onnx"
    write_windows(path, 24)
    with Upscaler.open(path) as upscaler:
        for size in ((5, 9), (40, 61), (24, 24), (150, 7)):
            image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
            assert np.array_equal(upscaler(image), nearest(image, SCALE))
            upscaler.networks.give_back()
    assert measure_bytes_per_pixel(path)
