"""Differences between two rows of a comparison within each seed, with an interval for their mean."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


def t_quantile(confidence: float, degrees: int) -> float:
    """Return t such that a Student t variable of ``degrees`` degrees of freedom lies in [-t, t] with ``confidence``.

    The probability has a closed form for whole degrees, which rises with t, so that halving finds t.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _share_within(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _share_within(angle: float, degrees: int) -> float:
    """Return the probability of |t| < sqrt(degrees) * tan(angle) (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences of pairs, one a seed."""

    mean: float
    deviation: float | None
    """Standard deviation over the pairs; None for one pair."""
    interval: tuple[float, float] | None
    """Of the mean, by Student's t; None for one pair."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Differences":
        """Describe at least one difference."""
        mean = statistics.mean(values)
        if len(values) == 1:
            return cls(mean, None, None)
        deviation = statistics.stdev(values)
        half = t_quantile(CONFIDENCE, len(values) - 1) * deviation / math.sqrt(len(values))
        return cls(mean, deviation, (mean - half, mean + half))

    def __str__(self) -> str:
        """Return mean, standard deviation and interval, each to three digits after the point."""
        if self.deviation is None or self.interval is None:
            return f"{self.mean:+.3f}"
        low, high = self.interval
        return f"{self.mean:+.3f} ± {self.deviation:.3f} ({low:+.3f} to {high:+.3f})"
