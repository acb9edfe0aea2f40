"""GPU memory is known before it is taken: fewer lanes, then smaller batches, then an error that says what to do."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.trt.backend import TensorRTBackend
from drc_deploy.runtime.backends.trt.lanes import RESERVE_BYTES, fit_lanes, halves
from tests.runtime.backends.trt import fake_tensorrt
from tests.runtime.backends.trt.fake_cuda import FakeCuda
from tests.runtime.backends.trt.fake_tensorrt import plan_bytes
from tests.runtime.backends.trt.test_backend import noise, write_plan
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.tensorrt_api import VERSIONS

TILE_BYTES = 8 * 8 * 3 + 16 * 16 * 3
"""Input and output of one tile of the fake plan."""
SCRATCH = 8000

Open = Callable[..., tuple[TensorRTBackend, FakeCuda]]


@pytest.fixture
def open_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    def open_plan(free: int, version: str = "tensorrt-10.3.0", **changes: Any) -> tuple[TensorRTBackend, FakeCuda]:
        cuda = FakeCuda(size=free)
        cuda.install(monkeypatch)
        library = fake_tensorrt.install(version, cuda, monkeypatch)
        plan = plan_bytes(scratch=SCRATCH, **changes)
        return TensorRTBackend(write_plan(tmp_path, plan, builder=library.__name__)), cuda

    return open_plan


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_allocated_is_what_was_predicted(version: str, open_with: Open) -> None:
    backend, cuda = open_with(1 << 30, version)
    with backend:
        memory = backend.gpu_memory
        assert (memory.lanes, memory.batch) == (3, 4)
        assert (memory.scratch, memory.io) == (SCRATCH, 3 * 4 * TILE_BYTES)
        assert cuda.allocated == memory.scratch + memory.io
        assert memory.total == memory.engine + cuda.allocated
        backend.run(noise(4, 8, 8, 3))
        assert cuda.allocated == memory.scratch + memory.io


@pytest.mark.parametrize(
    ("lanes", "batch", "scratch"),
    [
        (3, 4, SCRATCH),
        (2, 4, SCRATCH),
        (1, 4, SCRATCH),
        (3, 2, SCRATCH // 2),
        (1, 2, SCRATCH // 2),
        (1, 1, SCRATCH // 4),
    ],
)
def test_a_gpu_that_is_short_gets_fewer_lanes_and_then_smaller_batches(
    lanes: int, batch: int, scratch: int, open_with: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        backend, cuda = open_with(RESERVE_BYTES + scratch + lanes * batch * TILE_BYTES)
    with backend:
        assert (backend.gpu_memory.lanes, backend.gpu_memory.batch) == (lanes, batch)
        assert backend.info.max_batch == batch
        assert cuda.allocated == scratch + lanes * batch * TILE_BYTES
        reference = FakeBackend(fake_info(receptive_field=1, max_batch=4))
        batches = [noise(1 + index % batch, 8, 8, 3) // (index + 1) for index in range(7)]
        for given, result in zip(batches, backend.stream(batches), strict=True):
            assert np.array_equal(result, reference.run(given))
    assert cuda.allocated == 0
    assert ("GPU memory is short" in caplog.text) == ((lanes, batch) != (3, 4))


@pytest.mark.parametrize("version", ["tensorrt-8.6.1", "tensorrt-10.3.0"])
def test_without_room_for_one_tile_the_error_has_the_figures(version: str, open_with: Open) -> None:
    smallest = SCRATCH + TILE_BYTES if version == "tensorrt-8.6.1" else SCRATCH // 4 + TILE_BYTES
    with pytest.raises(ArtefactError) as caught:
        open_with(RESERVE_BYTES + smallest - 1, version)
    assert "the GPU has 64 MiB left, and at least 65 MiB are needed" in caught.value.message
    assert "Another process may hold" in caught.value.hint
    assert "--tile" in caught.value.hint
    open_with(RESERVE_BYTES + smallest, version)[0].close()


def test_a_plan_of_a_fixed_batch_keeps_it(open_with: Open) -> None:
    with pytest.raises(ArtefactError, match="out of memory"):
        open_with(RESERVE_BYTES + SCRATCH + 4 * TILE_BYTES - 1, shape=(4, 8, 8, 3))
    backend, _ = open_with(RESERVE_BYTES + SCRATCH + 4 * TILE_BYTES, shape=(4, 8, 8, 3))
    with backend:
        assert (backend.gpu_memory.lanes, backend.info.max_batch) == (1, 4)


def test_a_plan_larger_than_what_is_left_is_not_even_loaded(open_with: Open) -> None:
    with pytest.raises(ArtefactError, match="the plan alone has"):
        open_with(50)


def test_memory_of_an_integrated_gpu_is_what_the_host_can_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver of a Jetson counts the system's cache of files as used."""
    cuda = FakeCuda(size=1 << 30, integrated=True)
    cuda.install(monkeypatch)
    cuda.allocated = cuda.size - 100_000  # far less than RESERVE_BYTES
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    with TensorRTBackend(write_plan(tmp_path, plan_bytes())) as backend:
        assert backend.gpu_memory.lanes == 3


def test_the_choice_is_the_first_that_fits() -> None:
    sizes: tuple[Any, ...] = (1, halves(5), lambda batch: 300 * batch, lambda batch: 100 * batch)
    order = [(batch, lanes, 300 * batch + lanes * 100 * batch) for batch in (5, 2, 1) for lanes in (3, 2, 1)]
    for free in range(400, 4000, 7):
        found = fit_lanes(free + RESERVE_BYTES, *sizes)
        assert (found.batch, found.lanes) == next((batch, lanes) for batch, lanes, size in order if size <= free)
    with pytest.raises(ArtefactError, match="out of memory"):
        fit_lanes(399 + RESERVE_BYTES, *sizes)
