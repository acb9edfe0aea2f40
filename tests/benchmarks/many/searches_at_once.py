"""Searches for several bounds, in turn and side by side: ``python -m tests.benchmarks.many.searches_at_once``.

On a GPU their passes are replayed too, which is compared with launching them; a CPU has no such thing, and is busy with
one search.
"""

import statistics

import click
import torch
from torch import Tensor

from drc_deploy.locate import SAMPLES
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.torch_gpu import Lanes
from drc_deploy.train.data.folders import open_photographs
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.device import time_when_done
from drc_deploy.train.search.cost import budget_for, cost_model
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.searcher import Searcher

STEPS = 10**6
"""Of a schedule that does not end while this runs."""


@click.command()
@click.option("--model", default="drn_xs", show_default=True)
@click.option("--ratio", "ratios", type=float, multiple=True, default=(0.3, 0.5, 0.7), show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--patch", default=24, show_default=True)
@click.option("--updates", default=5, show_default=True, help="Of every search, in each turn.")
@click.option("--turns", default=7, show_default=True)
def main(model: str, ratios: tuple[float, ...], batch: int, patch: int, updates: int, turns: int) -> None:
    """Print the time of an update of all searches."""
    spec = ModelSpec(model, 4)
    photographs = open_photographs(SAMPLES).usable(4, patch)
    both = [PatchSampler(photographs, scale=4, patch=patch, batch=batch, seed=seed).sample(0) for seed in (1, 2)]

    def searchers(*, replays: bool) -> list[Searcher]:
        made = []
        for ratio in ratios:
            network = build_network(spec)
            budget = budget_for(cost_model(spec, "madds"), network.widths, ratio)
            options = SearchOptions(ratio, STEPS, batch, patch, target="madds")
            made.append(Searcher(network, network.build_duals(), options, budget))
            made[-1].replays = replays
        return made

    ways = {"launched, in turn": (False, 1), "launched, side by side": (False, len(ratios))}
    if torch.cuda.is_available():
        ways |= {"replayed, in turn": (True, 1), "replayed, side by side": (True, len(ratios))}
    running = {name: (searchers(replays=replays), Lanes(lanes)) for name, (replays, lanes) in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(turns + 1):  # the first warms up, and records
        for name, (group, lanes) in running.items():
            start = time_when_done()
            for _ in range(updates):
                _update(group, both, lanes)
            times[name].append(1000 * (time_when_done() - start) / updates)
    first = times[next(iter(times))][1:]
    for name, (_, *measured) in times.items():
        ratio = statistics.median(b / a for a, b in zip(first, measured, strict=True))
        click.echo(f"{name:<24}{statistics.median(measured):9.1f} ms{ratio:8.2f}")


def _update(searchers: list[Searcher], both: list[list[Tensor]], lanes: Lanes) -> None:
    lanes.run({number: lambda s=searcher: s.update(*both) for number, searcher in enumerate(searchers)})  # type: ignore[misc]


if __name__ == "__main__":
    main()
