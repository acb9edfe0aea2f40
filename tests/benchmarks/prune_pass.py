"""What caching saves in a pass of pruning: ``python -m tests.benchmarks.prune_pass``."""

import click

from drc_deploy.locate import SAMPLES
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.folders import open_photographs
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.pruning.greedy import GreedyPruning
from drc_deploy.train.pruning.masked_tuning import MaskedTuning
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.pruning.pruning import PruneTask
from tests.benchmarks.turns import median_ms


@click.command()
@click.option("--model", default="drn_xs", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--patch", default=24, show_default=True)
@click.option("--turns", default=15, show_default=True)
def main(model: str, batch: int, patch: int, turns: int) -> None:
    """Print, for an early, a middle and a late layer, the time of one gradient with and without what is cached."""
    network = build_network(ModelSpec(model, 4))
    sampler = PatchSampler(open_photographs(SAMPLES).usable(4, patch), scale=4, patch=patch, batch=batch, seed=1)
    pruning = GreedyPruning(
        PruneTask(network, network.build_duals(), network.widths, sampler, PruneOptions("drc", 1, batch, patch))
    )
    images = sampler.sample(0)
    layers = network.prunable_layers
    for index in (0, len(layers) // 2, len(layers) - 1):

        def prepare(index: int = index) -> MaskedTuning:
            return MaskedTuning(pruning, index, [images], pruning.objective())

        prepared = prepare()
        times = median_ms(
            {"cached": prepared.gradients, "from the start": lambda: prepare().gradients()},
            turns=turns,
        )
        ratio = times["from the start"] / times["cached"]
        click.echo(f"{layers[index].name:<16}{times['cached']:9.1f} ms{times['from the start']:9.1f} ms{ratio:8.2f}x")


if __name__ == "__main__":
    main()
