"""What a step of the search costs, in training steps: ``python -m tests.benchmarks.search_step``.

A first-order step is made of two passes, a second-order one of five; two training steps are the yardstick.
"""

import click

from drc_deploy.locate import SAMPLES
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.folders import open_photographs
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.search.cost import budget_for, cost_model
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.searcher import Searcher
from drc_deploy.widths import Target
from tests.benchmarks.turns import median_ms

STEPS = 10**6
"""Of a schedule that does not end while this runs."""


@click.command()
@click.option("--model", default="drn_xs", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--patch", default=24, show_default=True)
@click.option("--turns", default=15, show_default=True)
def main(model: str, batch: int, patch: int, turns: int) -> None:
    """Print medians and ratios."""
    spec = ModelSpec(model, 4)
    photographs = open_photographs(SAMPLES).usable(4, patch)
    one, other = (PatchSampler(photographs, scale=4, patch=patch, batch=batch, seed=s).sample(0) for s in (1, 2))
    network = build_network(spec)
    trainer = Trainer(network, network.build_duals(), TrainOptions(STEPS, batch, patch))

    def two_training_steps() -> None:
        trainer.update(one)
        trainer.update(other)

    def search(options: SearchOptions, target: Target = "channels") -> Searcher:
        supernet = build_network(spec)
        budget = None if target == "channels" else budget_for(cost_model(spec, target), supernet.widths, 0.5)
        return Searcher(supernet, supernet.build_duals(), options, budget)

    first = search(SearchOptions(0.5, STEPS, batch, patch))
    bounded = search(SearchOptions(0.5, STEPS, batch, patch, target="madds"), "madds")
    second = search(SearchOptions(0.5, STEPS, batch, patch, order=2))
    times = median_ms(
        {
            "two training steps": two_training_steps,
            "first order": lambda: first.update(one, other),
            "first order, bound on multiply-adds": lambda: bounded.update(one, other),
            "second order": lambda: second.update(one, other),
        },
        turns=turns,
    )
    for name, ms in times.items():
        click.echo(f"{name:<38}{ms:9.1f} ms{ms / times['two training steps']:8.2f}")


if __name__ == "__main__":
    main()
