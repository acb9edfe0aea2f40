"""How often intervals cover the truth where runs of a round are alike: ``python -m tests.benchmarks.intervals``.

Rounds are AR(1) processes around a level of their own. Signed ranks and the design effect are what
``drc_deploy.bench.measure.intervals`` returns; the other intervals are what it does not use, and why. An interval that
needs more than there is returns none: how many of the others cover the truth is counted.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import click
import numpy as np

from drc_deploy.bench.measure.intervals import (
    TAIL,
    Interval,
    order_interval,
    percentile_interval,
    runs_needed,
    signed_rank_interval,
)

REPETITIONS, RUN_DEVIATION, RESAMPLES = 400, 0.03, 1000
NOISES = ((0.0, 0.0), (0.6, 0.0), (0.0, 0.01), (0.0, 0.02), (0.0, 0.03), (0.6, 0.03))
"""Correlation of neighbouring runs, and deviation of the levels of rounds."""

Rounds = Sequence[Sequence[float]]


def draw(noise: np.random.Generator, rounds: int, runs: int, correlation: float, shift: float) -> list[list[float]]:
    """Return latencies whose logarithms are normal around 0."""
    rows = []
    for _ in range(rounds):
        level, value = noise.normal(0, shift), noise.normal()
        row = []
        for _ in range(runs):
            row.append(float(np.exp(level + RUN_DEVIATION * value)))
            value = correlation * value + np.sqrt(1 - correlation**2) * noise.normal()
        rows.append(row)
    return rows


def by_order(rounds: Rounds, part: float) -> Interval | None:
    """Take all samples for independent."""
    ordered = np.sort(np.concatenate(rounds))
    ranks = order_interval(ordered.size, part)
    return (float(ordered[ranks[0]]), float(ordered[ranks[1]])) if ranks else None


def by_bootstrap(rounds: Rounds, part: float) -> Interval:
    """Return the percentile bootstrap interval of a quantile of all samples, resampling whole rounds."""
    samples = np.concatenate(rounds)
    order = np.argsort(samples)
    round_of = np.repeat(np.arange(len(rounds)), [len(row) for row in rounds])[order]
    found = []
    for chosen in np.random.default_rng(0).integers(0, len(rounds), (RESAMPLES, len(rounds))):
        upto = np.cumsum(np.bincount(chosen, minlength=len(rounds))[round_of])
        found.append(samples[order[np.searchsorted(upto, part * upto[-1])]])
    low, high = np.quantile(found, [TAIL, 1 - TAIL])
    return float(low), float(high)


def by_signed_ranks(rounds: Rounds) -> Interval | None:
    """Return the interval of the median from the medians of the rounds."""
    interval = signed_rank_interval([float(np.log(np.median(row))) for row in rounds])
    return (float(np.exp(interval[0])), float(np.exp(interval[1]))) if interval else None


def intervals(rounds: Rounds, part: float) -> Mapping[str, Interval | None]:
    """Return each kind of interval."""
    known = {"order statistics": by_order(rounds, part), "bootstrap": by_bootstrap(rounds, part)}
    if part == 0.5:
        return {**known, "signed ranks": by_signed_ranks(rounds)}
    return {**known, "design effect": percentile_interval(rounds, part)}


def cell(found: Sequence[Interval | None], truth: float) -> str:
    """Say how many of the intervals that are given cover the truth, and how wide they are."""
    given = [interval for interval in found if interval]
    if not given:
        return "none given"
    covered = np.mean([low <= truth <= high for low, high in given])
    width = np.mean([high - low for low, high in given])
    return f"{covered:.0%} of {len(given) / len(found):.0%} ({width:.1%})"


def main() -> None:
    """Print which part covers the truth of which part that is given, and the mean width."""
    noise = np.random.default_rng(0)
    click.echo("quantile  rounds  runs  correlation  shift   covered of given (mean width)")
    for part in (0.5, 0.9, 0.95, 0.99):
        for rounds, runs in ((8, 5), (8, 40), (8, 100), (6, 40)):
            if rounds * runs < runs_needed(part):
                continue
            for correlation, shift in NOISES:
                truth = float(np.exp(NormalDist().inv_cdf(part) * np.hypot(RUN_DEVIATION, shift)))
                found = [intervals(draw(noise, rounds, runs, correlation, shift), part) for _ in range(REPETITIONS)]
                cells = [f"{name} {cell([item[name] for item in found], truth)}" for name in found[0]]
                click.echo(f"{part:8}  {rounds:6}  {runs:4}  {correlation:11}  {shift:5}   {', '.join(cells)}")


if __name__ == "__main__":
    main()
