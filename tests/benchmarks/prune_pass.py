"""What resuming saves in a pass of pruning: ``python -m tests.benchmarks.prune_pass``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.locate import CHECKPOINT_SUFFIX
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.pruning.partial_forward import Replay
from tests.benchmarks.turns import median_ms


@click.command()
@click.option("--model", default="drn_xs", show_default=True, help="A name, or a checkpoint.")
@click.option("--batch", default=8, show_default=True)
@click.option("--patch", default=24, show_default=True)
@click.option("--turns", default=15, show_default=True)
def main(model: str, batch: int, patch: int, turns: int) -> None:
    """Print, for an early, a middle and a late layer, the time of a gradient in a resumed and in a whole pass."""
    is_file = model.endswith(CHECKPOINT_SUFFIX)
    network = load_checkpoint(Path(model)).build_network() if is_file else build_network(ModelSpec(model, 4))
    network.eval().requires_grad_(False)
    lr = torch.rand(batch, 3, patch, patch) * 255
    layers = network.prunable_layers
    for index in (0, len(layers) // 2, len(layers) - 1):
        part = layers[index].read[0]
        weight = network.get_parameter(part.tensor).requires_grad_(True)
        replay = Replay(network, part.module, lr)
        gradient = partial(_gradient, weight)
        passes = {"resumed": partial(gradient, replay.run), "whole": partial(gradient, partial(network, lr))}
        times = median_ms(passes, turns=turns)
        weight.requires_grad_(False)
        ratio = times["whole"] / times["resumed"]
        click.echo(f"{layers[index].name:<24}{times['resumed']:9.1f} ms{times['whole']:9.1f} ms{ratio:8.2f}x")


def _gradient(weight: Tensor, run: Callable[[], list[Tensor]]) -> None:
    torch.autograd.grad(run()[-1].square().mean(), weight)


if __name__ == "__main__":
    main()
