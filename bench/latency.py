"""Statistics of one engine's latency: derived from raw samples, and only as far as the samples carry them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95

Samples: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """What one engine took for one image. A field that is None has its reason in ``unavailable``.

    The intervals are distribution-free 95 % confidence intervals of the percentiles.
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


def summarise(rounds_ms: Sequence[Sequence[float]]) -> Latency:
    """Give the statistics of raw samples in milliseconds.

    Raises:
        ValueError: there is no sample, or one that no clock can give.
    """
    samples = np.array([sample for round_ms in rounds_ms for sample in round_ms], np.float64)
    if samples.size == 0 or not np.all(np.isfinite(samples)) or samples.min() <= 0:
        raise ValueError("latency needs at least one sample, and every sample positive and finite")
    p90, p99 = _interval(samples, 0.90), _interval(samples, 0.99)
    return Latency(
        rounds_ms=tuple(tuple(round_ms) for round_ms in rounds_ms),
        runs=samples.size,
        mean_ms=float(samples.mean()),
        std_ms=float(samples.std(ddof=1)) if samples.size > 1 else 0.0,
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        median_ms=float(np.median(samples)),
        median_interval_ms=_interval(samples, 0.50),
        p90_ms=float(np.quantile(samples, 0.90)) if p90 else None,
        p90_interval_ms=p90,
        p99_ms=float(np.quantile(samples, 0.99)) if p99 else None,
        p99_interval_ms=p99,
        images_per_second=1000.0 / float(samples.mean()),
        unavailable=_missing(samples.size),
    )


def ratio_by_round(one: Latency, other: Latency) -> tuple[float, Interval | None]:
    """Give how many times as long ``one`` takes as ``other``, and the confidence interval; both ran in the same rounds.

    What slows a machine down slows down both engines of a round, and so leaves the ratio of that round as it is.
    """
    rounds = zip(one.rounds_ms, other.rounds_ms, strict=True)
    ratios = np.array([np.median(one_ms) / np.median(other_ms) for one_ms, other_ms in rounds], np.float64)
    return float(np.median(ratios)), _interval(ratios, 0.50)


def runs_needed(part: float) -> int:
    """Give the fewest runs whose largest sample bounds the quantile ``part`` from above with confidence.

    All ``n`` samples lie below the quantile with probability ``part ** n``; that must not exceed half of what
    the confidence leaves. 6 for the median, 36 for 90 %, 368 for 99 %.
    """
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(max(part, 1 - part)))


def order_interval(count: int, part: float) -> tuple[int, int] | None:
    """Give the 0-based ranks of the sorted samples between which the quantile ``part`` lies with confidence.

    The number of samples below the quantile is binomial (count, part), whatever the distribution of the
    samples (Conover, "Practical Nonparametric Statistics", section 3.2). None when ``count`` is too small.
    """
    below = np.cumsum(_binomial(count, part))
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right")) - 1
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return (low, high) if low >= 0 and high < count else None


def _binomial(count: int, part: float) -> Samples:
    """Give the probabilities of 0 to ``count`` successes."""
    logarithms = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(part)
        + (count - k) * math.log(1 - part)
        for k in range(count + 1)
    ]
    probabilities: Samples = np.exp(np.array(logarithms))
    return probabilities


def _interval(samples: Samples, part: float) -> Interval | None:
    ranks = order_interval(samples.size, part)
    if ranks is None:
        return None
    ordered = np.sort(samples)
    return float(ordered[ranks[0]]), float(ordered[ranks[1]])


def _missing(runs: int) -> dict[str, str]:
    """Say why fields are None after ``runs`` runs."""
    names = {
        "median_interval_ms": 0.50,
        "p90_ms": 0.90,
        "p90_interval_ms": 0.90,
        "p99_ms": 0.99,
        "p99_interval_ms": 0.99,
    }
    return {
        name: f"{runs} runs say too little: {runs_needed(part)} are needed"
        for name, part in names.items()
        if runs < runs_needed(part)
    }
