"""Tiles are planned so that what they take is known before they run."""

import time
import tracemalloc
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc_deploy.engine_info import IoDtype
from drc_deploy.errors import UsageError
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.writing import write_png
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.pipeline import WriteBehind
from drc_deploy.runtime.memory.host import MemoryBudget, free_budget
from drc_deploy.runtime.tiling.memory_plan import AROUND_BYTES, Images, fit_plan, peak_bytes
from drc_deploy.runtime.tiling.tiles import plan_tiles
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info

INFO = replace(
    fake_info(scale=4, global_operations=True, receptive_field=20), cpu_bytes_per_pixel=6_000, params=200_000
)
LOADED = 80 << 20


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    allowed=st.integers(0, 3 << 30),
    cores=st.integers(1, 64),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
@settings(max_examples=150, deadline=None)
def test_a_plan_keeps_within_its_budget_or_is_refused_with_one_that_does(
    height: int, width: int, allowed: int, cores: int, dtype: type[np.uint8] | type[np.uint16]
) -> None:
    info = replace(INFO, io_dtype="float32")
    budget = MemoryBudget(LOADED + allowed, LOADED)
    try:
        fitted = fit_plan(Images(height, width, dtype), info, budget, cores)
    except UsageError as error:
        needed = int(error.hint.split()[2].removesuffix("MiB")) << 20
        fitted = fit_plan(Images(height, width, dtype), info, MemoryBudget(needed, LOADED), cores)
        budget = MemoryBudget(needed, LOADED)
    assert fitted.peak is not None
    assert LOADED < fitted.peak <= budget.limit
    assert fitted.peak == peak_bytes(info, fitted.plan, fitted.workers, Images(height, width, dtype), LOADED)
    assert 1 <= fitted.workers <= cores


def test_with_memory_enough_every_core_has_a_tile_of_full_size() -> None:
    fitted = fit_plan(Images(2000, 3000), INFO, MemoryBudget(64 << 30, LOADED), 16)
    assert fitted.workers == 16
    assert fitted.plan == plan_tiles(2000, 3000, INFO)


def test_with_less_memory_tiles_shrink_before_cores_are_left_idle() -> None:
    areas = []
    for mib in (4000, 1000, 600, 400):
        fitted = fit_plan(Images(2000, 3000), INFO, MemoryBudget(LOADED + (mib << 20), LOADED), 4)
        areas.append(fitted.plan.tile[0] * fitted.plan.tile[1])
        assert fitted.workers == 4
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] < areas[0] / 4
    assert fit_plan(Images(2000, 3000), INFO, MemoryBudget(LOADED + (90 << 20), LOADED), 4).workers < 4


def test_the_prediction_for_one_tile_is_what_is_held_of_it() -> None:
    plan = plan_tiles(100, 100, INFO, tile=100)
    expected = (
        100 * 100 * 6_000  # activations
        + 100 * 100 * 3 * (1 + 16)  # the tile and its result
        + 400 * 400 * 3  # finished rows
        + 100 * 100 * 3  # the image
        + AROUND_BYTES
    )
    assert peak_bytes(INFO, plan, 8, Images(100, 100), LOADED) == LOADED + expected


FEW = replace(INFO, cpu_bytes_per_pixel=1)


class NearestBackend(FakeBackend):
    """Repeats pixels, and holds nothing."""

    def run(self, batch: Pixels) -> Pixels:
        return batch.repeat(4, axis=1).repeat(4, axis=2)


def slowly(strip: Pixels) -> Pixels:
    """Hold a strip while the next is made, as a slow disk does; longer than that takes on a busy machine."""
    time.sleep(0.3)
    return strip


@pytest.mark.parametrize(
    ("shape", "dtype", "io_dtype"),
    [
        ((700, 1100, 3), np.uint8, "uint8"),
        ((1500, 300, 3), np.uint8, "uint8"),
        ((300, 2000, 3), np.uint8, "float32"),
        ((700, 1100, 4), np.uint8, "uint8"),
        ((700, 1100, 3), np.uint16, "float32"),
        ((700, 1100, 4), np.uint16, "float32"),
    ],
)
def test_what_is_around_the_network_takes_what_is_planned(
    shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16], io_dtype: IoDtype, tmp_path: Path
) -> None:
    """Against NumPy's own count of its arrays, in the pipeline that writes a PNG."""
    info = replace(FEW, io_dtype=io_dtype)
    image = np.random.default_rng(0).integers(0, 200, shape, dtype)
    with Upscaler(NearestBackend(info), tile=160) as upscaler, WriteBehind() as writer:
        plan = upscaler.plan(shape[0], shape[1], dtype)
        tracemalloc.start()
        try:
            image = image.copy()
            with (tmp_path / "o.png").open("wb") as stream:
                layout = Layout.of(image, 4)
                strips = upscaler.strips(image)
                writer.write(strips, lambda parts: write_png(stream, map(slowly, parts), layout, Metadata())).result()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    planned = peak_bytes(info, plan, 1, Images(shape[0], shape[1], dtype, alpha=shape[2:] == (4,)), 0)
    assert planned - AROUND_BYTES <= 1.2 * peak
    assert peak <= planned


@pytest.mark.parametrize(("tile", "io_dtype"), [(160, "float32"), (700, "float32"), (160, "uint8")])
def test_what_is_around_the_network_in_a_stream_takes_what_is_planned(tile: int, io_dtype: IoDtype) -> None:
    """Against NumPy's own count of its arrays: frames that are read, and a result that another holds."""
    info = replace(FEW, io_dtype=io_dtype)
    frame = np.random.default_rng(0).integers(0, 200, (600, 700, 3), np.uint8)
    with Upscaler(NearestBackend(info), tile=tile) as upscaler:
        images = Images(600, 700, stream=True)
        plan = upscaler.fit(images).plan
        tracemalloc.start()
        try:
            deque(upscaler.stream(frame.copy() for _ in range(4)), maxlen=1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    planned = peak_bytes(info, plan, 1, images, 0)
    assert planned - AROUND_BYTES <= 1.45 * peak
    assert peak <= planned


def test_alpha_and_other_work_leave_less_room_for_tiles() -> None:
    upscaler = Upscaler(CpuBackend(INFO), budget=MemoryBudget(LOADED + (700 << 20), LOADED))
    areas = [
        fitted.plan.tile[0] * fitted.plan.tile[1] * fitted.workers
        for fitted in (
            upscaler.fit(Images(2000, 3000)),
            upscaler.fit(Images(2000, 3000, alpha=True)),
            upscaler.fit(Images(2000, 3000, alpha=True), also_held=200 << 20),
        )
    ]
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] < areas[0]
    with pytest.raises(UsageError, match="more than the"):
        upscaler.fit(Images(2000, 3000), also_held=700 << 20)


class CpuBackend(FakeBackend):
    """Says that it runs on a CPU and counts its workers."""

    used: int | None = None
    given_back = 0
    cores = 8

    @property
    def device(self) -> str:
        return "ONNX Runtime CPUExecutionProvider"

    @property
    def workers(self) -> int:
        return self.cores

    def use_workers(self, count: int) -> None:
        self.used = count

    def give_back(self) -> None:
        self.given_back += 1


def test_the_upscaler_runs_what_was_planned() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    backend = CpuBackend(INFO)
    upscaler = Upscaler(backend, budget=MemoryBudget(LOADED + (60 << 20), LOADED))
    fitted = upscaler.fit(Images(300, 200))
    assert upscaler.task(image).tile_count == fitted.plan.tile_count > 1
    upscaler(image)
    assert backend.used == fitted.workers < 8
    assert set(backend.calls) == {(1, *fitted.plan.tile, 3)}


def test_memory_of_larger_tiles_is_freed_where_an_image_needs_it() -> None:
    backend = CpuBackend(INFO)
    backend.cores = 1
    large = Upscaler(backend, budget=MemoryBudget(64 << 30, LOADED)).fit(Images(256, 256))
    assert large.peak is not None
    upscaler = Upscaler(backend, budget=MemoryBudget(large.peak + (4 << 20), LOADED))
    for shape, given_back in (((256, 256, 3), 0), ((40, 30, 3), 0), ((32, 20_000, 3), 1), ((32, 20_000, 3), 1)):
        fitted = upscaler.fit(Images(*shape[:2]))
        assert fitted.computing <= large.computing  # it is never the tiles that want more room than the first had
        upscaler.strips(np.zeros(shape, np.uint8))
        assert backend.given_back == given_back


def test_kept_memory_is_freed_before_another_session_is_loaded() -> None:
    backend, given_back = CpuBackend(INFO), []

    def open_float() -> CpuBackend:
        given_back.append(backend.given_back)
        return CpuBackend(replace(INFO, io_dtype="float32"))

    upscaler = Upscaler(backend, open_float=open_float, budget=MemoryBudget(64 << 30, LOADED))
    upscaler.strips(np.zeros((40, 30, 3), np.uint8))
    before = backend.given_back
    for _ in range(2):
        upscaler.strips(np.zeros((40, 30, 3), np.uint16))
    assert given_back == [before + 1]


def test_a_network_whose_need_is_unknown_is_planned_as_ever() -> None:
    upscaler = Upscaler(CpuBackend(replace(INFO, cpu_bytes_per_pixel=None)), budget=MemoryBudget(1, 1))
    assert upscaler.fit(Images(300, 200)).peak is None
    assert upscaler.plan(300, 200) == plan_tiles(300, 200, INFO)


@pytest.mark.parametrize(
    ("files", "free_mib"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n"}, 1024),
        (
            {
                "proc/meminfo": "MemAvailable: 1048576 kB\n",
                "sys/fs/cgroup/memory.max": f"{300 << 20}\n",
                "sys/fs/cgroup/memory.current": f"{180 << 20}\n",
                "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {80 << 20}\n",
            },
            200,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 1048576 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "5\n",
            },
            1024,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 1048576 kB\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{64 << 20}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{65 << 20}\n",
            },
            0,
        ),
    ],
)
def test_what_is_free_is_that_of_the_container_where_it_is_less(
    files: dict[str, str], free_mib: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    budget = free_budget(tmp_path)
    assert (budget is None) == (free_mib is None)
    if budget and free_mib is not None:
        assert budget.limit - budget.loaded == free_mib << 19
