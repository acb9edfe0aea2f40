"""Statistics of one engine's latency: derived from raw samples, and only as far as the samples carry them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.bench.measure.intervals import (
    FEWEST_ROUNDS,
    Interval,
    Samples,
    centre,
    independent_runs,
    percentile_interval,
    runs_needed,
    signed_rank_interval,
)

OUTLIER_DEVIATIONS = 3.5
"""A run further from the median than so many standard deviations, estimated from the median absolute deviation, is an
outlier (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993)."""
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
    p95_ms: float | None
    p95_interval_ms: Interval | None
    calls_per_run: int
    """How many images a timed run is the mean of: more than 1 where one takes too little for the clock."""
    outliers: tuple[int, ...]
    """Which runs, counted through all rounds from 0, are further than 3.5 deviations from the median. They count."""


def summarise(rounds_ms: Sequence[Sequence[float]], calls_per_run: int = 1) -> Latency:
    """Return the statistics of raw samples in milliseconds, each the mean of ``calls_per_run`` calls.

    Raises:
        ValueError: there is no sample, or one that no clock can give.
    """
    samples = np.array([sample for round_ms in rounds_ms for sample in round_ms], np.float64)
    if samples.size == 0 or not np.all(np.isfinite(samples)) or samples.min() <= 0:
        raise ValueError("latency needs at least one sample, and every sample positive and finite")
    told = {name: part for name, part in PARTS.items() if calls_per_run == 1 and samples.size >= runs_needed(part)}
    values = {name: float(np.quantile(samples, part)) for name, part in told.items()}
    tails = {name: percentile_interval(rounds_ms, part) for name, part in told.items()}
    return Latency(
        rounds_ms=tuple(tuple(round_ms) for round_ms in rounds_ms),
        runs=samples.size,
        mean_ms=float(samples.mean()),
        std_ms=float(samples.std(ddof=1)) if samples.size > 1 else 0.0,
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        median_ms=float(np.median(samples)),
        median_interval_ms=_median_interval(rounds_ms),
        p90_ms=values.get("p90"),
        p90_interval_ms=tails.get("p90"),
        p99_ms=values.get("p99"),
        p99_interval_ms=tails.get("p99"),
        images_per_second=1000.0 / float(samples.mean()),
        unavailable=_missing(rounds_ms, calls_per_run),
        p95_ms=values.get("p95"),
        p95_interval_ms=tails.get("p95"),
        calls_per_run=calls_per_run,
        outliers=_outliers(samples),
    )


def ratio_by_round(one: Latency, other: Latency) -> tuple[float, Interval | None]:
    """Return the ratio of the latencies of ``one`` and ``other`` in the same rounds, and its confidence interval.

    What slows a machine down slows down both engines of a round, and so leaves the ratio of that round as it is.
    """
    return ratio_of_rounds(round_medians(one), round_medians(other))


def ratio_of_rounds(one: Sequence[float], other: Sequence[float]) -> tuple[float, Interval | None]:
    """Return the ratio of two positive figures that were taken in the same rounds, and its confidence interval."""
    logarithms = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    interval = signed_rank_interval(logarithms)
    bounds = (math.exp(interval[0]), math.exp(interval[1])) if interval else None
    return math.exp(centre(logarithms)), bounds


def round_medians(latency: Latency) -> list[float]:
    """Return the median of each round in milliseconds."""
    return [float(np.median(round_ms)) for round_ms in latency.rounds_ms]


def _median_interval(rounds_ms: Sequence[Sequence[float]]) -> Interval | None:
    """Return the interval from the medians of the rounds, with the median of all runs inside."""
    interval = signed_rank_interval([float(np.log(np.median(round_ms))) for round_ms in rounds_ms])
    if interval is None:
        return None
    median = float(np.median(np.concatenate([np.asarray(round_ms) for round_ms in rounds_ms])))
    return min(math.exp(interval[0]), median), max(math.exp(interval[1]), median)


def _outliers(samples: Samples) -> tuple[int, ...]:
    distances = np.abs(samples - np.median(samples))
    limit = OUTLIER_DEVIATIONS * MAD_TO_STD * float(np.median(distances))
    return tuple(int(index) for index in np.flatnonzero(distances > limit)) if limit > 0 else ()


def _missing(rounds_ms: Sequence[Sequence[float]], calls_per_run: int) -> dict[str, str]:
    """Say why fields are None."""
    rounds, runs, worth = len(rounds_ms), sum(map(len, rounds_ms)), independent_runs(rounds_ms)
    few = f"{_say(rounds, 'round')} too little: {FEWEST_ROUNDS} are needed" if rounds < FEWEST_ROUNDS else ""
    reasons = {"median_interval_ms": few}
    for name, part in PARTS.items():
        reason = _no_percentile(runs, part, calls_per_run)
        reasons |= {f"{name}_ms": reason, f"{name}_interval_ms": reason or few or _rounds_differ(runs, worth, part)}
    return {field: reason for field, reason in reasons.items() if reason}


def _no_percentile(runs: int, part: float, calls_per_run: int) -> str:
    if calls_per_run > 1:
        return f"each timed run is the mean of {calls_per_run} calls, which no clock can time one by one"
    return "" if runs >= runs_needed(part) else f"{_say(runs, 'run')} too little: {runs_needed(part)} are needed"


def _rounds_differ(runs: int, worth: int, part: float) -> str:
    if worth >= runs_needed(part):
        return ""
    return f"the rounds differ: {runs} runs are worth {worth} independent ones, {runs_needed(part)} are needed"


def _say(number: int, what: str) -> str:
    return f"{number} {what} says" if number == 1 else f"{number} {what}s say"
