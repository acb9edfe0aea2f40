"""95 % confidence intervals that hold for the samples as they are: skewed, and alike within a round.

Runs of one round are not independent: the machine is in one state for all of them. So what is independent, and
counted, is the rounds. For the centre of round medians and of ratios of rounds there is an exact interval
(``signed_rank_interval``), which covers the truth in 94 to 98 of 100 cases. Resampling eight rounds instead, as the
bootstrap does, covers it in 86 to 91, and order statistics of single runs in 24 to 97, depending on how alike they are
(``python -m tests.benchmarks.intervals``). For a percentile of all runs no closed form takes the rounds into account,
and eight rounds cannot bound a tail that lies between them: order statistics count the runs as so many independent ones
as they are worth, and there is no interval where that is too few (``percentile_interval``).
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
FEWEST_ROUNDS = 6
"""With fewer, all of them lie on one side of the centre too often: 2 * 0.5**5 is more than 5 %."""

Samples: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]


def runs_needed(part: float) -> int:
    """Return the fewest runs whose largest sample bounds the quantile ``part`` from above with confidence.

    All ``n`` samples lie below the quantile with probability ``part ** n``; that must not exceed half of what
    the confidence leaves. 6 for the median, 36 for 90 %, 72 for 95 %, 368 for 99 %.
    """
    return math.ceil(math.log(TAIL) / math.log(max(part, 1 - part)))


def order_interval(count: int, part: float) -> tuple[int, int] | None:
    """Return the 0-based ranks of the sorted samples between which the quantile ``part`` lies with confidence.

    The number of independent samples below the quantile is binomial (count, part), whatever their distribution
    (Conover, "Practical Nonparametric Statistics", section 3.2). None when ``count`` is too small.
    """
    counts = np.arange(count + 1)
    factorials = np.array([math.lgamma(k + 1) for k in counts])
    ways = factorials[-1] - factorials - factorials[::-1]
    below = np.cumsum(np.exp(ways + counts * math.log(part) + counts[::-1] * math.log(1 - part)))
    low = int(np.searchsorted(below, TAIL, side="right")) - 1
    high = int(np.searchsorted(below, 1 - TAIL, side="left"))
    return (low, high) if low >= 0 and high < count else None


def independent_runs(rounds: Sequence[Sequence[float]]) -> int:
    """Return how many independent runs are worth as much as all runs of ``rounds``, whose latencies are positive.

    They are as many times fewer as the means of the rounds vary more than those of independent runs would: the design
    effect of a cluster sample (Kish, "Survey Sampling", 1965), of the logarithms. At least 1 and at most all; all where
    there is one round, which shows no effect.
    """
    rows = [np.log(np.asarray(samples, np.float64)) for samples in rounds]
    every = np.concatenate(rows)
    between = sum(row.size * (row.mean() - every.mean()) ** 2 for row in rows) / max(len(rows) - 1, 1)
    effect = between / every.var(ddof=1) if every.size > 1 and np.ptp(every) > 0 else 1.0
    return max(int(every.size / max(effect, 1.0)), 1)


def percentile_interval(rounds: Sequence[Sequence[float]], part: float) -> Interval | None:
    """Return the interval of the quantile ``part`` of all samples, which are positive.

    The order statistics of so many samples as ``independent_runs`` returns, at the same places among all samples. None
    below ``FEWEST_ROUNDS`` rounds and where ``independent_runs`` is less than ``runs_needed``: where rounds differ as
    much as runs do, nearly always. On simulated machines that get one at least every fifth time, it covers the truth in
    95 to 99 of 100; on the others those get one that look steady by chance, and about 1 in 100 of all gets a wrong one.
    """
    worth = independent_runs(rounds)
    ranks = order_interval(worth, part)
    if ranks is None or len(rounds) < FEWEST_ROUNDS:
        return None
    ordered = np.sort(np.concatenate([np.asarray(samples, np.float64) for samples in rounds]))
    # The middle of rank k of n samples is the part (k + 1/2) / n of them; both are rounded outwards.
    low, high = ((2 * rank + 1) * ordered.size - worth for rank in ranks)
    return float(ordered[low // (2 * worth)]), float(ordered[-(-high // (2 * worth))])


def centre(values: Sequence[float]) -> float:
    """Return the Hodges-Lehmann estimate: the median of the means of all pairs, of each value with itself too."""
    return float(np.median(_pair_means(values)))


def signed_rank_interval(values: Sequence[float]) -> Interval | None:
    """Return the interval of the centre of independent values from a symmetric distribution.

    Exact and otherwise distribution-free, by Wilcoxon's signed ranks (Conover, section 5.7). Logarithms of ratios of
    two equal engines are symmetric whatever the noise is, since both could be exchanged. None below
    ``FEWEST_ROUNDS`` values.
    """
    if len(values) < FEWEST_ROUNDS:
        return None
    means = _pair_means(values)
    left_out = _tail(_signed_rank_ways(len(values)))
    return float(means[left_out - 1]), float(means[-left_out])


def _pair_means(values: Sequence[float]) -> Samples:
    numbers = np.asarray(values, np.float64)
    first, second = np.triu_indices(numbers.size)
    means: Samples = np.sort((numbers[first] + numbers[second]) / 2)
    return means


def _tail(ways: Sequence[int]) -> int:
    """Return how many of the smallest values of a statistic, given the ways to get each, are ``TAIL`` together or less.

    The values are 0, 1, ..., and all ways are equally probable.
    """
    return sum(total <= TAIL * sum(ways) for total in accumulate(ways))


def _signed_rank_ways(count: int) -> list[int]:
    """Return with how many choices of the ranks 1 to ``count`` their sum is 0, 1, ..."""
    size = count * (count + 1) // 2 + 1
    ways = [1] + [0] * (size - 1)
    for rank in range(1, count + 1):
        for total in range(size - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return ways


def ranks_outside(count: int, other_count: int) -> int | None:
    """Return how many of the sorted pairs lie on each side of the confidence interval; None for too few.

    It is the largest ``k`` with P(U <= k) at most (1 - confidence) / 2. U is the statistic of Mann and Whitney for two
    samples of the same distribution.
    """
    fitting = _tail(_mann_whitney_ways(count, other_count))
    return fitting - 1 if fitting else None


def _mann_whitney_ways(count: int, other_count: int) -> list[int]:
    """Return in how many orders of the two samples U is 0, 1, ...: the coefficients of a Gaussian binomial."""
    size = count * other_count + 1
    ways = [1] + [0] * (size - 1)
    for part in range(1, count + 1):
        for power in range(size - 1, other_count + part - 1, -1):  # times 1 - q^(other_count + part)
            ways[power] -= ways[power - other_count - part]
        for power in range(part, size):  # over 1 - q^part
            ways[power] += ways[power - part]
    return ways
