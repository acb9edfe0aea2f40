"""The network alone, without the tiling around it: one batch at a time, and as many as it takes.

Both get what the image's tiles are, already cut and in memory. What is left of the time from image to image is the
host's: cutting, joining and blending tiles.
"""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from drc_deploy.bench.measure.timing import TimingBudget, calls_for, time_runs
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Backend, DeviceTimes, Pixels
from drc_deploy.runtime.memory.host import free_budget
from drc_deploy.runtime.tiling.strips import tile_batches
from drc_deploy.runtime.tiling.tiles import TilePlan

LEAST_IN_FLIGHT = 4
"""Batches that a pipeline may hold where the backend names fewer workers: TensorRT has three lanes."""
PIPELINE_FILLS = 2
"""A stream is at least so many times as long as what is in flight, so that filling and emptying it weigh little."""


@dataclass(frozen=True, slots=True)
class EngineRound:
    """One round of the network alone."""

    batch_ms: tuple[float, ...]
    """Runs of one batch, from memory to memory, the next one when the one before is done."""
    image_ms: tuple[float, ...]
    """Runs of all batches of one image, streamed as the upscaler does."""
    device_times: tuple[DeviceTimes, ...]
    """Of each run of one batch; empty where the backend has no events."""


@dataclass(frozen=True, slots=True)
class StreamRound:
    """One stream of many images."""

    images: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Workload:
    """What a network is given for the images that are measured."""

    batch_shape: tuple[int, int, int, int]
    """(N, H, W, 3)."""
    batches_per_image: int
    calls: int
    """Calls of one batch that a timed run is the mean of."""


class EngineTimer:
    """Times one network on images of one size."""

    def __init__(self, backend: Backend, images: Sequence[UInt8Image], plan: TilePlan) -> None:
        """Cut the images, and run each batch once to see how long one takes.

        Args:
            backend: the network.
            images: (H, W, 3), different ones of the same size, which take turns.
            plan: the tiles of each.
        """
        self._backend = backend
        self._images = [list(tile_batches(backend, image, plan)) for image in images]
        self._batches = list(itertools.chain.from_iterable(self._images))
        self._turns, self._image_turns = itertools.cycle(self._batches), itertools.cycle(self._images)
        first_ms = time_runs(self._run_next, TimingBudget(2, 0.0)).samples_ms
        self._batch_s = min(first_ms) / 1e3
        self._calls = calls_for(min(first_ms))

    def describe(self) -> Workload:
        """Return what the network is given."""
        count, height, width, channels = self._batches[0].shape
        return Workload((count, height, width, channels), len(self._images[0]), self._calls)

    def measure(self, budget: TimingBudget) -> EngineRound:
        """Time one round."""
        budget = TimingBudget(budget.min_runs, budget.min_seconds, self._calls)
        times: list[DeviceTimes] = []

        def read_events() -> None:
            found = self._backend.device_times
            if found is not None:
                times.append(found)

        batch_ms = time_runs(self._run_next, budget, after=read_events).samples_ms
        if len(self._images[0]) == 1:  # then an image is a batch
            return EngineRound(batch_ms, batch_ms, tuple(times))
        image_ms = time_runs(lambda: self._drain(next(self._image_turns)), budget).samples_ms
        return EngineRound(batch_ms, image_ms, tuple(times))

    def stream(self, min_seconds: float) -> StreamRound:
        """Stream images without a pause, for about ``min_seconds`` or until the pipeline was filled twice."""
        workers = _fitting_workers(self._backend, self._batches[0])
        self._backend.use_workers(workers)
        self._drain([next(self._turns) for _ in range(workers)])  # not timed: it may load what only streams need
        fewest = PIPELINE_FILLS * max(workers, LEAST_IN_FLIGHT)
        wanted = max(fewest, min_seconds * workers / self._batch_s)
        images = math.ceil(wanted / len(self._images[0]))
        batches = list(itertools.chain.from_iterable(next(self._image_turns) for _ in range(images)))
        start = time.perf_counter_ns()
        self._drain(batches)
        return StreamRound(images, (time.perf_counter_ns() - start) / 1e9)

    def _run_next(self) -> None:
        self._backend.run(next(self._turns))

    def _drain(self, batches: Sequence[Pixels]) -> None:
        for _ in self._backend.stream(batches):
            pass


def _fitting_workers(backend: Backend, batch: Pixels) -> int:
    """Return how many batches may be computed at a time in the memory that is free: each needs as much as an image."""
    info, budget = backend.info, free_budget()
    if info.cpu_bytes_per_pixel is None or budget is None:
        return backend.workers
    count, height, width, channels = batch.shape
    results = 2 * channels * (info.scale**2 + 1) * batch.itemsize
    needed = count * height * width * (info.cpu_bytes_per_pixel + results)
    return max(min(backend.workers, int((budget.limit - budget.loaded) // needed)), 1)
