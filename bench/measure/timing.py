"""The stopwatch: runs something until enough is known, on a monotonic clock, and keeps every sample."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

Clock = Callable[[], int]
"""Returns nanoseconds that never run backwards."""

WARM_UP_WINDOW = 3
WARM_UP_TOLERANCE = 0.05
"""Warm-up ends when the medians of two windows in a row differ by no more than this part."""
WARM_UP_LIMIT_S = 10.0
"""Warm-up also ends after this time, and then says that it did not settle."""
WARM_UP_MIN_RUNS = 2
TICKS_PER_RUN = 1000
TICK_READINGS = 200
MIN_CALL_MS = 1e-4
"""Nothing can be called in less."""


@dataclass(frozen=True, slots=True)
class TimingBudget:
    """How long to measure: until both are reached."""

    min_runs: int
    min_seconds: float
    calls: int = 1
    """Calls that one run is the mean of; see ``calls_for``."""


@dataclass(frozen=True, slots=True)
class Round:
    """The timed runs between two turns of the other engines."""

    start_s: float
    """On the monotonic clock that all processes of a machine share."""
    end_s: float
    samples_ms: tuple[float, ...]
    """Of one call each: the mean of ``calls`` of them."""
    calls: int = 1


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Runs before the measurement; they count for nothing but are kept."""

    samples_ms: tuple[float, ...]
    settled: bool
    """Whether the latency had become stable."""
    calls_per_run: int = 1
    """How many calls a timed run takes together afterwards; see ``calls_for``."""


def time_runs(
    run: Callable[[], object],
    budget: TimingBudget,
    clock: Clock = time.perf_counter_ns,
    after: Callable[[], object] = lambda: None,
) -> Round:
    """Run until the budget is reached. ``after`` is called after each run and not timed."""
    samples: list[float] = []
    with _no_garbage_collection():
        start = clock()
        while len(samples) < budget.min_runs or clock() - start < budget.min_seconds * 1e9:
            samples.append(_time_one(run, clock, budget.calls))
            after()
        end = clock()
    return Round(start / 1e9, end / 1e9, tuple(samples), budget.calls)


def calls_for(call_ms: float, clock: Clock = time.perf_counter_ns) -> int:
    """Return how many calls of ``call_ms`` must be timed together for the clock not to matter.

    A run then lasts at least ``TICKS_PER_RUN`` steps of the clock, which are its resolution or what reading it takes,
    whichever is more: a thousandth of the run at most.
    """
    readings = [clock() for _ in range(TICK_READINGS)]
    # A clock of a test, which only work moves, makes no step here.
    tick_ns = min((after - before for before, after in pairwise(readings) if after > before), default=0)
    return max(math.ceil(TICKS_PER_RUN * tick_ns / 1e6 / max(call_ms, MIN_CALL_MS)), 1)


def warm_up(run: Callable[[], object], clock: Clock = time.perf_counter_ns) -> WarmUp:
    """Run until the latency is stable or ``WARM_UP_LIMIT_S`` is over."""
    samples: list[float] = []
    start = clock()
    while not (settled := _settled(samples)):
        if len(samples) >= WARM_UP_MIN_RUNS and clock() - start > WARM_UP_LIMIT_S * 1e9:
            break
        samples.append(_time_one(run, clock))
    call_ms = statistics.median(samples[-WARM_UP_WINDOW:])
    return WarmUp(tuple(samples), settled, calls_for(call_ms, clock))


def _settled(samples: list[float]) -> bool:
    if len(samples) < 2 * WARM_UP_WINDOW:
        return False
    last = statistics.median(samples[-WARM_UP_WINDOW:])
    before = statistics.median(samples[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW])
    return abs(last - before) <= WARM_UP_TOLERANCE * before


def _time_one(run: Callable[[], object], clock: Clock, calls: int = 1) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / 1e6 / calls


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
