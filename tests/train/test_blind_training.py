"""A blind network is trained, searched and pruned by the loss of its kernels as well."""

from functools import partial
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch

from drc_deploy.errors import UsageError
from drc_deploy.models.dcls import DCLS, DCLSConfig
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import MODELS, Architecture, build_network
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.targets import FollowedPatches
from drc_deploy.train.degradation.settings import PUBLISHED
from drc_deploy.train.loop.kernel_loss import LastKernel, kernel_loss
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.training import following, start_from_checkpoint
from drc_deploy.train.pruning import srp
from drc_deploy.train.pruning.prune import prune_to_widths, pruning_method
from drc_deploy.train.pruning.prune_options import PruneMethod, PruneOptions
from drc_deploy.train.pruning.pruning import PruneTask
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.supernet import Supernet, has_only_convolutions
from tests.train.conftest import save_new

CONFIG = DCLSConfig((5, 3, 1), features=16, groups=1, blocks=2, latent=12, hidden=4)
WIDTHS = (4, 16, 3, 7, 5, 16, 2, 4, 6)
ESTIMATOR = range(4)
"""Layers whose channels the image's loss does not reach."""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "dcls_tiny", Architecture("for tests", {4: partial(DCLS, config=CONFIG)}))
    monkeypatch.setattr(srp, "PASSES", 3)


@pytest.fixture
def network() -> DCLS:
    torch.manual_seed(1)
    network = build_network(ModelSpec("dcls_tiny", 4))
    assert isinstance(network, DCLS)
    return network


@pytest.fixture
def patches(photographs: Photographs) -> PatchSampler:
    return PatchSampler(photographs.degraded(PUBLISHED["dcls"][4]), scale=4, patch=8, batch=2, seed=1)


def test_the_parts_of_the_loss_add_up_and_the_kernels_one_falls(network: DCLS, patches: PatchSampler) -> None:
    options = TrainOptions(60, batch=2, patch=8, dual="single", learning_rate=1e-3)
    trainer, losses = Trainer(network, network.build_duals(), options), []
    for step in range(60):
        trainer.update(patches.sample(step % 4))
        losses.append(trainer.take_losses())
    for values in losses:
        assert values is not None
        assert values["loss"] == pytest.approx(values["primal"] + 0.1 * values["dual"] + values["kernel"])
    kernels = [values["kernel"] for values in losses if values]
    assert sum(kernels[-4:]) < 0.8 * sum(kernels[:4])


def test_the_estimator_learns_from_the_kernels_alone(network: DCLS, patches: PatchSampler) -> None:
    """Its gradients in an update are those of the kernel's loss."""
    images = patches.sample(0)
    with LastKernel(network) as kernels:
        network(images[0])
    kernel = kernels.take()
    assert kernel is not None
    expected = torch.autograd.grad(kernel_loss(kernel, images[0], images[-1]), list(network.Estimator.parameters()))
    trainer = Trainer(network, network.build_duals(), TrainOptions(9, batch=2, patch=8, dual="single"))
    trainer.update(images)
    for parameter, gradient in zip(trainer.network.get_submodule("Estimator").parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-6 * float(gradient.abs().max()))


@pytest.mark.parametrize("order", [1, 2])
def test_a_search_sees_what_the_estimators_channels_are_worth(
    network: DCLS, patches: PatchSampler, order: Literal[1, 2]
) -> None:
    images = patches.sample(0)
    supernet = Supernet(network, network.build_duals(), SearchOptions(0.3, round_to=2, order=order))
    supernet.rank(images)
    (gradient,) = torch.autograd.grad(supernet(images), supernet.alphas)
    assert all(bool(row.abs().max() > 0) for row in gradient)
    assert not network.Estimator._forward_hooks


@pytest.mark.parametrize("method", get_args(PruneMethod))
def test_every_method_prunes_the_latent_and_what_it_tuned_is_what_is_left(
    method: PruneMethod, network: DCLS, patches: PatchSampler, tmp_path: Path
) -> None:
    options = PruneOptions(method, 1, 2, 8, channels_per_step=4)
    pruning = pruning_method(PruneTask(network, network.build_duals(), WIDTHS, patches, options))
    small = prune_to_widths(pruning, tmp_path / "state", inputs={}).eval().double()
    assert small.widths == WIDTHS
    lr = torch.rand(1, 3, 9, 16, dtype=torch.float64) * 255
    with torch.no_grad():
        masked, cut = pruning.pruned.double().upscale(lr), small.upscale(lr)
    assert float((masked - cut).abs().max()) <= 1e-5 * float(cut.max() - cut.min())


def test_images_of_a_network_teach_no_kernels(network: DCLS, patches: PatchSampler, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its own images do not show"):
        FollowedPatches(patches, network)
    blind, leader = save_new("dcls_tiny", tmp_path), save_new("drn_xs", tmp_path)
    start = start_from_checkpoint(blind, TrainOptions(1, dual="single"))
    with pytest.raises(UsageError, match="images of a network do not show"):
        following(start, leader)


def test_darts_needs_one_convolution_behind_each_layer(network: DCLS) -> None:
    assert not has_only_convolutions(network)
    assert has_only_convolutions(build_network(ModelSpec("drn_xs", 4)))


def test_the_loss_copies_nothing_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph cannot be recorded with such a copy."""
    lr, kernel = torch.rand(1, 3, 8, 8), torch.full((1, 1, 5, 5), 0.04)
    kernel_loss(kernel, lr, torch.rand(1, 3, 32, 32))
    for name in ("from_numpy", "tensor", "as_tensor"):
        monkeypatch.setattr(torch, name, None)
    kernel_loss(kernel, lr, torch.rand(1, 3, 32, 32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_its_step_can_be_recorded(network: DCLS, patches: PatchSampler) -> None:
    trainer = Trainer(network, network.build_duals(), TrainOptions(3, batch=2, patch=8, dual="single"))
    assert trainer.replays
    for step in range(3):
        trainer.update(patches.sample(step))
    assert trainer.take_losses() is not None
