"""Photographs small enough for a test, and a checkpoint to start from."""

from pathlib import Path

import pytest

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.photographs import Photographs


@pytest.fixture(scope="session")
def photographs() -> Photographs:
    """Four photographs of 96x96 pixels."""
    return Photographs.of("crops", [read_rgb(path)[60:156, 60:156] for path in sample_images()])


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """An untrained drn_xs checkpoint with its duals."""
    network = build_network(ModelSpec("drn_xs", 4))
    path = tmp_path / "drn_xs.safetensors"
    save_checkpoint(path, Checkpoint.of(network, network.build_duals()))
    return path
