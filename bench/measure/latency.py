"""Statistics of an engine's latency, and the ratio of two: only as far as the raw samples carry them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drc_deploy.bench.measure.intervals import (
    FEWEST_ROUNDS,
    Interval,
    Samples,
    centre,
    independent_runs,
    percentile_interval,
    ranks_outside,
    runs_needed,
    signed_rank_interval,
)

OUTLIER_DEVIATIONS = 3.5
"""A run further from the median than so many standard deviations, estimated from the median absolute deviation, is an
outlier (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993)."""
SMALLEST_DIFFERENCE = 0.02
"""Latencies that differ by less than this part are the same, however narrow the interval: between two processes of one
engine the processor time differed by up to 1.6 % in 14 pairs, with where its memory happens to lie. On a machine in use
``python -m tests.benchmarks.equal_engines`` measures it."""
MAD_TO_STD = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""
PARTS = {"p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Latency:
    """What one engine took for one image. A field that is None has its reason in ``unavailable``.

    The intervals are 95 % confidence intervals: of the median from the rounds (exact, see ``intervals.py``), of the
    percentiles from order statistics of so many runs as they are worth. Where the rounds are too few or differ too much
    to hold that, a percentile has a value and no interval.
    """

    rounds_ms: tuple[tuple[float, ...], ...]
    """Every timed run, in the order of the rounds; the other engines ran between two rounds."""
    runs: int
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    median_ms: float
    median_interval_ms: Interval | None
    p90_ms: float | None
    p90_interval_ms: Interval | None
    p99_ms: float | None
    p99_interval_ms: Interval | None
    images_per_second: float
    unavailable: dict[str, str]
    p95_ms: float | None = None
    p95_interval_ms: Interval | None = None
    calls_per_run: int = 1
    """How many images a timed run is the mean of: more than 1 where one takes too little for the clock."""
    outliers: tuple[int, ...] = ()
    """Which runs, counted through all rounds from 0, are further than 3.5 deviations from the median. They count."""


@dataclass(frozen=True, slots=True)
class LatencyRatio:
    """One engine against another, by the ratio of their medians in each round."""

    engine: str
    other: str
    speedup: float
    """How many times as fast as ``other`` the engine is."""
    interval: Interval | None
    """95 % confidence interval; None with too few rounds."""
    different: bool
    """Whether the interval excludes 1 and the difference is at least ``SMALLEST_DIFFERENCE``."""


@dataclass(frozen=True, slots=True)
class RunRatio:
    """The ratio of the latencies of two runs made at different times, ``after`` over ``before``: above 1 is slower."""

    ratio: float
    """Hodges-Lehmann estimate: the median of the ratios of every round of one run to every round of the other."""
    interval: Interval | None
    """95 % confidence interval from the spread of the rounds; None when there are too few. It does not cover changes
    between whole runs, such as the place of memory or the temperature of a room."""
    significant: bool
    """Whether the interval excludes 1."""


def summarise(rounds_ms: Sequence[Sequence[float]], calls_per_run: int = 1) -> Latency:
    """Return the statistics of raw samples in milliseconds, each the mean of ``calls_per_run`` calls.

    Raises:
        ValueError: there is no sample, or one that no clock can give.
    """
    samples = np.array([sample for round_ms in rounds_ms for sample in round_ms], np.float64)
    if samples.size == 0 or not np.all(np.isfinite(samples)) or samples.min() <= 0:
        raise ValueError("latency needs at least one sample, and every sample positive and finite")
    percentiles, unavailable = _percentiles(rounds_ms, samples, calls_per_run)
    return Latency(
        rounds_ms=tuple(tuple(round_ms) for round_ms in rounds_ms),
        runs=samples.size,
        mean_ms=float(samples.mean()),
        std_ms=float(samples.std(ddof=1)) if samples.size > 1 else 0.0,
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        median_ms=float(np.median(samples)),
        median_interval_ms=_median_interval(rounds_ms),
        images_per_second=1000.0 / float(samples.mean()),
        unavailable=unavailable,
        calls_per_run=calls_per_run,
        outliers=_outliers(samples),
        **percentiles,
    )


def compare(engine: tuple[str, Latency], other: tuple[str, Latency]) -> LatencyRatio:
    """Compare two engines, each given by name and latency, that ran in the same rounds."""
    speedup, interval = ratio_by_round(other[1], engine[1])
    excludes_1 = interval is not None and not interval[0] <= 1 <= interval[1]
    large = max(speedup, 1 / speedup) >= 1 + SMALLEST_DIFFERENCE
    return LatencyRatio(engine[0], other[0], speedup, interval, excludes_1 and large)


def ratio_by_round(one: Latency, other: Latency) -> tuple[float, Interval | None]:
    """Return the ratio of the latencies of ``one`` and ``other`` in the same rounds, and its confidence interval.

    What slows a machine down slows down both engines of a round, and so leaves the ratio of that round as it is.
    """
    logarithms = [math.log(a / b) for a, b in zip(round_medians(one), round_medians(other), strict=True)]
    interval = signed_rank_interval(logarithms)
    bounds = (math.exp(interval[0]), math.exp(interval[1])) if interval else None
    return math.exp(centre(logarithms)), bounds


def ratio_of_runs(before: Latency, after: Latency) -> RunRatio:
    """Compare the medians of the rounds of two runs (Hollander and Wolfe, "Nonparametric Statistical Methods", 4.3).

    The runs did not take turns, so a round of one has no partner in the other. The medians of their rounds are two
    independent samples, compared with the test of Mann and Whitney, which is exact for any distribution. The unit is
    the round: single runs that follow each other within a second are hardly independent.
    """
    first, second = np.array(round_medians(before)), np.array(round_medians(after))
    ratios = np.sort((second[:, None] / first[None, :]).ravel())
    trim = ranks_outside(first.size, second.size)
    interval = None if trim is None else (float(ratios[trim]), float(ratios[-1 - trim]))
    return RunRatio(float(np.median(ratios)), interval, interval is not None and not interval[0] <= 1 <= interval[1])


def round_medians(latency: Latency) -> list[float]:
    """Return the median of each round in milliseconds."""
    return [float(np.median(round_ms)) for round_ms in latency.rounds_ms]


def _median_interval(rounds_ms: Sequence[Sequence[float]]) -> Interval | None:
    """Return the interval from the medians of the rounds, with the median of all runs inside."""
    interval = signed_rank_interval([float(np.log(np.median(round_ms))) for round_ms in rounds_ms])
    if interval is None:
        return None
    median = float(np.median(np.concatenate(rounds_ms)))
    return min(math.exp(interval[0]), median), max(math.exp(interval[1]), median)


def _outliers(samples: Samples) -> tuple[int, ...]:
    distances = np.abs(samples - np.median(samples))
    limit = OUTLIER_DEVIATIONS * MAD_TO_STD * float(np.median(distances))
    return tuple(int(index) for index in np.flatnonzero(distances > limit)) if limit > 0 else ()


def _percentiles(
    rounds_ms: Sequence[Sequence[float]], samples: Samples, calls_per_run: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the percentiles and their intervals by field, and why fields of the latency are None."""
    rounds, runs, worth = len(rounds_ms), samples.size, independent_runs(rounds_ms)
    few = f"{_say(rounds, 'round')} too little: {FEWEST_ROUNDS} are needed" if rounds < FEWEST_ROUNDS else ""
    fields: dict[str, Any] = {}
    reasons = {"median_interval_ms": few}
    for name, part in PARTS.items():
        value, interval, needed = f"{name}_ms", f"{name}_interval_ms", runs_needed(part)
        fields |= {value: None, interval: None}
        if calls_per_run > 1:
            why = f"each timed run is the mean of {calls_per_run} calls, whose single times no clock resolves"
            reasons |= {value: why, interval: why}
        elif runs < needed:
            why = f"{_say(runs, 'run')} too little: {needed} are needed"
            reasons |= {value: why, interval: why}
        else:
            differ = f"the rounds differ: {runs} runs are worth {worth} independent ones, {needed} are needed"
            reasons[interval] = few or (differ if worth < needed else "")
            fields |= {value: float(np.quantile(samples, part)), interval: percentile_interval(rounds_ms, part)}
    return fields, {field: why for field, why in reasons.items() if why}


def _say(number: int, what: str) -> str:
    return f"{number} {what} says" if number == 1 else f"{number} {what}s say"
