"""How often intervals cover the median where runs of a round are alike: ``python -m tests.benchmarks.intervals``.

Rounds are AR(1) processes around a level of their own; the intervals are what ``drc_deploy.bench.intervals`` gives.
"""

import click
import numpy as np

from drc_deploy.bench.intervals import Interval, bootstrap_interval, order_interval, signed_rank_interval

ROUNDS, REPETITIONS, RUN_DEVIATION = 8, 400, 0.03


def draw(noise: np.random.Generator, runs: int, correlation: float, shift: float) -> list[list[float]]:
    """Give logarithms of latencies whose median is 0."""
    rounds = []
    for _ in range(ROUNDS):
        level, value = noise.normal(0, shift), noise.normal()
        row = []
        for _ in range(runs):
            row.append(float(level + RUN_DEVIATION * value))
            value = correlation * value + np.sqrt(1 - correlation**2) * noise.normal()
        rounds.append(row)
    return rounds


def intervals(rounds: list[list[float]]) -> dict[str, Interval]:
    """Give each kind of interval."""
    ordered = np.sort(np.concatenate(rounds))
    low, high = order_interval(ordered.size, 0.5) or (0, -1)
    return {
        "order statistics": (float(ordered[low]), float(ordered[high])),
        "bootstrap": bootstrap_interval(rounds, 0.5),
        "signed ranks": signed_rank_interval([float(np.median(row)) for row in rounds]) or (0.0, 0.0),
    }


def main() -> None:
    """Print coverage and mean width."""
    noise = np.random.default_rng(0)
    click.echo("runs  correlation  shift   covered by (mean width)")
    for runs in (5, 40):
        for correlation, shift in ((0.0, 0.0), (0.6, 0.0), (0.0, 0.02), (0.6, 0.02)):
            found = [intervals(draw(noise, runs, correlation, shift)) for _ in range(REPETITIONS)]
            cells = []
            for name in found[0]:
                covered = np.mean([low <= 0 <= high for low, high in (item[name] for item in found)])
                width = np.mean([item[name][1] - item[name][0] for item in found])
                cells.append(f"{name} {covered:.0%} ({width:.1%})")
            click.echo(f"{runs:4}  {correlation:11}  {shift:5}   {', '.join(cells)}")


if __name__ == "__main__":
    main()
