"""The stopwatch: runs something until enough is known, on a monotonic clock, and keeps every sample."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Clock = Callable[[], int]
"""Gives nanoseconds that never run backwards."""

WARM_UP_WINDOW = 3
WARM_UP_TOLERANCE = 0.05
"""Warm-up ends when the medians of two windows in a row differ by no more than this part."""
WARM_UP_LIMIT_S = 10.0
"""Warm-up also ends after this time, and then says that it did not settle."""
WARM_UP_MIN_RUNS = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure: until both are reached."""

    min_runs: int
    min_seconds: float


@dataclass(frozen=True, slots=True)
class Round:
    """The timed runs between two turns of the other engines."""

    start_s: float
    """On the monotonic clock that all processes of a machine share."""
    end_s: float
    samples_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Runs before the measurement; they count for nothing but are kept."""

    samples_ms: tuple[float, ...]
    settled: bool
    """Whether the latency had become stable."""


def time_runs(run: Callable[[], object], budget: Budget, clock: Clock = time.perf_counter_ns) -> Round:
    """Run until the budget is reached; give each run's milliseconds, and when it was."""
    samples: list[float] = []
    with _no_garbage_collection():
        start = clock()
        while len(samples) < budget.min_runs or clock() - start < budget.min_seconds * 1e9:
            samples.append(_time_one(run, clock))
        end = clock()
    return Round(start / 1e9, end / 1e9, tuple(samples))


def warm_up(run: Callable[[], object], clock: Clock = time.perf_counter_ns) -> WarmUp:
    """Run until the latency is stable or ``WARM_UP_LIMIT_S`` is over."""
    samples: list[float] = []
    start = clock()
    while not _settled(samples):
        if len(samples) >= WARM_UP_MIN_RUNS and clock() - start > WARM_UP_LIMIT_S * 1e9:
            return WarmUp(tuple(samples), settled=False)
        samples.append(_time_one(run, clock))
    return WarmUp(tuple(samples), settled=True)


def _settled(samples: list[float]) -> bool:
    if len(samples) < 2 * WARM_UP_WINDOW:
        return False
    last = statistics.median(samples[-WARM_UP_WINDOW:])
    before = statistics.median(samples[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW])
    return abs(last - before) <= WARM_UP_TOLERANCE * before


def _time_one(run: Callable[[], object], clock: Clock) -> float:
    start = clock()
    run()
    return (clock() - start) / 1e6


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector's pauses out of the samples."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
