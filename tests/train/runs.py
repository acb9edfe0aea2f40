"""Short training runs for the tests."""

from pathlib import Path

import torch

from drc_deploy.checkpoint import Checkpoint, load_checkpoint
from drc_deploy.models.network import ModelSpec
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.training import fresh_start, train

SPEC = ModelSpec("drn_xs", 4)
OPTIONS = TrainOptions(steps=6, batch=2, patch=8, learning_rate=1e-3)


def train_fresh(
    photographs: Photographs,
    options: TrainOptions,
    output: Path,
    spec: ModelSpec = SPEC,
    supervision: Supervision | None = None,
) -> Checkpoint:
    """Train a new network."""
    return train(fresh_start(spec, options), photographs, options, output, supervision=supervision)


def assert_same_weights(one: Path, other: Path) -> None:
    """Compare all tensors of two checkpoints bit for bit."""
    a, b = load_checkpoint(one), load_checkpoint(other)
    assert a.dual_weights.keys() == b.dual_weights.keys()
    for name, tensor in {**a.weights, **a.dual_weights}.items():
        assert torch.equal(tensor, {**b.weights, **b.dual_weights}[name]), name
