"""Two engines of one run against each other: how many times as fast, and whether that is a difference at all."""

from dataclasses import dataclass

from drc_deploy.bench.measure.intervals import Interval
from drc_deploy.bench.measure.latency import Latency, ratio_by_round

SMALLEST_DIFFERENCE = 0.02
"""Latencies that differ by less than this part are the same, however narrow the interval: between two processes of one
engine the processor time differed by up to 1.6 % in 14 pairs, with where its memory happens to lie. Measure a
machine with ``python -m tests.benchmarks.equal_engines``."""


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


def compare(engine: tuple[str, Latency], other: tuple[str, Latency]) -> LatencyRatio:
    """Compare two engines, each given by name and latency, that ran in the same rounds."""
    speedup, interval = ratio_by_round(other[1], engine[1])
    excludes_1 = interval is not None and not interval[0] <= 1 <= interval[1]
    large = max(speedup, 1 / speedup) >= 1 + SMALLEST_DIFFERENCE
    return LatencyRatio(engine[0], other[0], speedup, interval, excludes_1 and large)
