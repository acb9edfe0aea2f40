"""How often a benchmark calls an engine different from itself, and by how much two processes of it differ.

``python -m tests.benchmarks.equal_engines ENGINE``. This is what ``drc_deploy.bench.comparison.TIE`` rests on.
"""

from contextlib import closing
from pathlib import Path

import click
import numpy as np

from drc_deploy.bench.measure.latency import LatencyRatio, compare, summarise
from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.run.benchmark import ROUNDS
from drc_deploy.bench.run.worker import EngineProcess, Session, open_file
from drc_deploy.images.crops import fit_to_size
from drc_deploy.locate import sample_images
from drc_deploy.pairs import Photograph

SIDE_PX = 48
BUDGET = TimingBudget(5, 0.2)


def contest(path: Path) -> LatencyRatio:
    """Let two processes of one engine take turns, as ``drc-deploy bench`` does."""
    images = [fit_to_size(Photograph(image).load(4).lr, SIDE_PX, SIDE_PX) for image in sample_images()[:4]]
    with (
        closing(EngineProcess(open_file(path, 1))) as one,
        closing(EngineProcess(open_file(path, 1))) as other,
    ):
        rounds: dict[EngineProcess, list[list[float]]] = {one: [], other: []}
        for process in rounds:
            process.ask(Session.warm_up, images)
        for number in range(ROUNDS):
            for process in (one, other) if number % 2 == 0 else (other, one):
                rounds[process].append(list(process.ask(Session.measure, images, BUDGET).samples_ms))
        return compare(("one", summarise(rounds[one])), ("other", summarise(rounds[other])))


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--runs", default=20, show_default=True)
def main(engine: Path, runs: int) -> None:
    """Print the ratios of all runs and how many of them count as different."""
    found = [contest(engine) for _ in range(runs)]
    ratios = np.array([item.speedup for item in found])
    away = np.abs(np.log(ratios))
    excluding = sum(item.interval is not None and not item.interval[0] <= 1 <= item.interval[1] for item in found)
    click.echo(f"ratios: {' '.join(f'{ratio:.3f}' for ratio in ratios)}")
    click.echo(f"away from 1: median {np.median(away):.2%}, 95th percentile {np.quantile(away, 0.95):.2%}")
    click.echo(f"{excluding} of {runs} intervals exclude 1; {sum(item.different for item in found)} called different")


if __name__ == "__main__":
    main()
