"""The ratio of the latencies of two runs made at different times: an estimate and its interval.

The runs did not take turns, so a round of one has no partner in the other. The medians of their rounds are two
independent samples, compared with the test of Mann and Whitney, which is exact for any distribution. The unit is the
round: single runs that follow each other within a second are hardly independent.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from drc_deploy.bench.measure.intervals import CONFIDENCE, Interval
from drc_deploy.bench.measure.latency import Latency


@dataclass(frozen=True, slots=True)
class RunRatio:
    """``after`` over ``before``: above 1 is slower."""

    ratio: float
    """Hodges-Lehmann estimate: the median of the ratios of every round of one run to every round of the other."""
    interval: Interval | None
    """95 % confidence interval from the spread of the rounds; None when there are too few. It does not cover changes
    between whole runs, such as the place of memory or the temperature of a room."""
    significant: bool
    """Whether the interval excludes 1."""


def ratio_of_runs(before: Latency, after: Latency) -> RunRatio:
    """Compare the medians of the rounds of two runs (Hollander and Wolfe, "Nonparametric Statistical Methods", 4.3)."""
    first, second = (np.array([np.median(round_ms) for round_ms in run.rounds_ms]) for run in (before, after))
    ratios = np.sort((second[:, None] / first[None, :]).ravel())
    trim = ranks_outside(first.size, second.size)
    interval = None if trim is None else (float(ratios[trim]), float(ratios[-1 - trim]))
    return RunRatio(float(np.median(ratios)), interval, interval is not None and not interval[0] <= 1 <= interval[1])


def ranks_outside(count: int, other_count: int) -> int | None:
    """Return how many of the sorted pairs lie on each side of the confidence interval; None for too few.

    It is the largest ``k`` with P(U <= k) at most (1 - confidence) / 2. U is the statistic of Mann and Whitney for two
    samples of the same distribution.
    """
    ways = _ways(count, other_count)
    allowed = (1 - CONFIDENCE) / 2 * sum(ways)
    fitting = sum(total <= allowed for total in accumulate(ways))
    return fitting - 1 if fitting else None


def _ways(count: int, other_count: int) -> list[int]:
    """Return in how many orders of the two samples U is 0, 1, ...: the coefficients of a Gaussian binomial."""
    size = count * other_count + 1
    ways = [1] + [0] * (size - 1)
    for part in range(1, count + 1):
        for power in range(size - 1, other_count + part - 1, -1):  # times 1 - q^(other_count + part)
            ways[power] -= ways[power - other_count - part]
        for power in range(part, size):  # over 1 - q^part
            ways[power] += ways[power - part]
    return ways
