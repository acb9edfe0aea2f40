"""Photographs small enough for a test, and a checkpoint to start from."""

from pathlib import Path

import pytest

from drc_deploy.checkpoint import Checkpoint, Parent, save_checkpoint
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import MODELS, Architecture, build_network
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop import dual_fit
from tests.models.plain_network import PlainNetwork
from tests.train.data.photograph_files import photographs_of


@pytest.fixture(autouse=True)
def _duals_are_fitted_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_fit, "STEPS", 20)


@pytest.fixture(scope="session")
def photographs() -> Photographs:
    """Four photographs of 96x96 pixels."""
    return photographs_of("crops", [read_rgb(path)[60:156, 60:156] for path in sample_images()])


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    """An untrained drn_xs checkpoint with its duals."""
    return save_new("drn_xs", tmp_path)


@pytest.fixture
def plain_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parent:
    """An untrained checkpoint of a network with two prunable layers, where the network itself does not matter."""
    monkeypatch.setitem(MODELS, "plain", Architecture("for tests", {4: PlainNetwork}))
    return save_new("plain", tmp_path)


def save_new(model: str, folder: Path) -> Parent:
    """Write a checkpoint of a new network at x4, with its duals, to ``folder``."""
    network = build_network(ModelSpec(model, 4))
    path = folder / f"{model}.safetensors"
    save_checkpoint(path, Checkpoint.of(network, network.build_duals()))
    return Parent.read(path)
