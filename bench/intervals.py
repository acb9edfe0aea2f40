"""95 % confidence intervals that hold for the samples as they are: skewed, and alike within a round.

Runs of one round are not independent: the machine is in one state for all of them. So what is independent, and
counted, is the rounds. For the centre of round medians and of ratios of rounds there is an exact interval
(``signed_rank_interval``), which covers the truth in 95 to 97 of 100 cases. Resampling eight rounds instead, as the
bootstrap does, covers it in 86 to 91, and order statistics of single runs in 47 to 98, depending on how alike they are
(``python -m tests.benchmarks.intervals``). For a percentile of all runs no closed form takes the rounds into account:
there the bootstrap over rounds widens the interval that order statistics give.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
FEWEST_ROUNDS = 6
"""With fewer, all of them lie on one side of the centre too often: 2 * 0.5**5 is more than 5 %."""
RESAMPLES = 1000
_SEED = 0
"""The bootstrap gives the same interval for the same samples."""

Samples: TypeAlias = npt.NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]


def runs_needed(part: float) -> int:
    """Give the fewest runs whose largest sample bounds the quantile ``part`` from above with confidence.

    All ``n`` samples lie below the quantile with probability ``part ** n``; that must not exceed half of what
    the confidence leaves. 6 for the median, 36 for 90 %, 72 for 95 %, 368 for 99 %.
    """
    return math.ceil(math.log(TAIL) / math.log(max(part, 1 - part)))


def order_interval(count: int, part: float) -> tuple[int, int] | None:
    """Give the 0-based ranks of the sorted samples between which the quantile ``part`` lies with confidence.

    The number of independent samples below the quantile is binomial (count, part), whatever their distribution
    (Conover, "Practical Nonparametric Statistics", section 3.2). None when ``count`` is too small.
    """
    below = np.cumsum(_binomial(count, part))
    low = int(np.searchsorted(below, TAIL, side="right")) - 1
    high = int(np.searchsorted(below, 1 - TAIL, side="left"))
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


def percentile_interval(rounds: Sequence[Sequence[float]], part: float) -> Interval | None:
    """Give the interval of the quantile ``part`` of all samples.

    The wider side each of the order statistics, which take all samples for independent, and of the bootstrap over
    rounds, which does not. None when there are too few samples.
    """
    ordered = np.sort(np.concatenate([np.asarray(samples, np.float64) for samples in rounds]))
    ranks = order_interval(ordered.size, part)
    if ranks is None:
        return None
    low, high = bootstrap_interval(rounds, part)
    return min(float(ordered[ranks[0]]), low), max(float(ordered[ranks[1]]), high)


def bootstrap_interval(rounds: Sequence[Sequence[float]], part: float) -> Interval:
    """Give the percentile bootstrap interval of a quantile of all samples, resampling whole rounds."""
    samples = np.concatenate([np.asarray(values, np.float64) for values in rounds])
    order = np.argsort(samples)
    round_of = np.repeat(np.arange(len(rounds)), [len(values) for values in rounds])[order]
    generator = np.random.default_rng(_SEED)
    found = []
    for chosen in generator.integers(0, len(rounds), (RESAMPLES, len(rounds))):
        upto = np.cumsum(np.bincount(chosen, minlength=len(rounds))[round_of])
        found.append(samples[order[np.searchsorted(upto, part * upto[-1])]])
    low, high = np.quantile(found, [TAIL, 1 - TAIL])
    return float(low), float(high)


def centre(values: Sequence[float]) -> float:
    """Give the Hodges-Lehmann estimate: the median of the means of all pairs, of each value with itself too."""
    return float(np.median(_pair_means(values)))


def signed_rank_interval(values: Sequence[float]) -> Interval | None:
    """Give the interval of the centre of independent values from a symmetric distribution.

    Exact and otherwise distribution-free, by Wilcoxon's signed ranks (Conover, section 5.7). Logarithms of ratios of
    two equal engines are symmetric whatever the noise is, since both could be exchanged. None below
    ``FEWEST_ROUNDS`` values.
    """
    if len(values) < FEWEST_ROUNDS:
        return None
    means = _pair_means(values)
    left_out = _signed_rank_tail(len(values))
    return float(means[left_out - 1]), float(means[-left_out])


def _pair_means(values: Sequence[float]) -> Samples:
    numbers = np.asarray(values, np.float64)
    first, second = np.triu_indices(numbers.size)
    means: Samples = np.sort((numbers[first] + numbers[second]) / 2)
    return means


def _signed_rank_tail(count: int) -> int:
    """Give how many of the smallest sums of signed ranks together have at most the probability ``TAIL``."""
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, count + 1):
        with_rank = ways.copy()
        with_rank[rank:] += ways[:-rank]
        ways = with_rank
    return int(np.searchsorted(np.cumsum(ways) / 2.0**count, TAIL, side="right"))
