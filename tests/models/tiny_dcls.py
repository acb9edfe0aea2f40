"""A DCLS that computes in no time, with weights that make a blur, and an image of few levels around grey."""

from pathlib import Path

import pytest
import torch
from torch import nn

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.models.dcls import DCLS, DCLSConfig
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import MODELS, Architecture

CONFIG = DCLSConfig((5, 3, 1), features=16, groups=1, blocks=1, latent=24, hidden=8)
SCALE = 2


def save_tiny_dcls(path: Path, patch: pytest.MonkeyPatch) -> DCLS:
    """Write a checkpoint, which can be loaded until ``patch`` is undone, and return its network."""
    patch.setitem(MODELS, "dcls_tiny", Architecture("tiny", {SCALE: lambda spec: DCLS(spec, CONFIG)}))
    torch.manual_seed(3)
    spec = ModelSpec("dcls_tiny", SCALE)
    network = DCLS(spec, CONFIG).eval()
    for weight in network.Estimator.parameters():
        weight.data.abs_().mul_(0.5)
    # Random blurs have frequencies that they leave nothing of, and what undoes them magnifies those without end.
    network.Restorer.head2.expand_feature.weight.data.mul_(0.001)
    last = network.Restorer.upscale[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    last.weight.data.mul_(0.4)
    last.bias.data.fill_(0.5)
    save_checkpoint(path, Checkpoint(spec, network.state_dict(), {}))
    return network
