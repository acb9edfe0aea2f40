"""What a network in training follows, and duals that are fitted to it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.errors import TrainingError
from drc_deploy.locate import find_checkpoint
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.targets import FollowedPatches, suitable_targets
from drc_deploy.train.loop import dual_fit
from drc_deploy.train.loop.dual_fit import STEPS, fit_duals
from drc_deploy.train.loop.losses import dual_regression_losses
from tests.models.plain_network import PlainNetwork


def patches(photographs: Photographs) -> PatchSampler:
    return PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1)


class OneImage(PlainNetwork):
    """A network that returns the finest image only, as those of other programs do."""

    def forward(self, lr: Tensor) -> list[Tensor]:
        return [self.upscale(lr)]


@pytest.mark.parametrize("kind", [PlainNetwork, OneImage])
def test_targets_are_what_the_network_makes_and_the_input_stays(
    kind: type[PlainNetwork], photographs: Photographs
) -> None:
    network = kind(ModelSpec("plain", 4))
    given = patches(photographs).sample(3)
    found = FollowedPatches(patches(photographs), network).sample(3)
    assert torch.equal(found[0], given[0])
    assert torch.equal(found[1], given[1]) == (kind is OneImage)  # it makes no image of twice the size
    with torch.no_grad():
        torch.testing.assert_close(found[2], network.upscale(given[0]))


def test_a_network_that_follows_itself_has_no_loss(photographs: Photographs) -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    images = FollowedPatches(patches(photographs), network).sample(0)
    with torch.no_grad():
        outputs = network(images[0])
    losses = dual_regression_losses(outputs[1:], images, nn.ModuleList())
    assert float(losses.primal) == pytest.approx(0, abs=1e-4)


class Drawn(SRNetwork):
    """Interpolates, then adds what the photographs do not have."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.spec, self.strength = ModelSpec("drawn", 4), strength

    def upscale(self, lr: Tensor) -> Tensor:
        image = F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False)
        return image + self.strength * torch.sin(torch.arange(image.shape[-1]))

    def forward(self, lr: Tensor) -> list[Tensor]:
        return [self.upscale(lr)]

    def build_duals(self, design: object = "single") -> nn.ModuleList:
        return nn.ModuleList()


def test_a_network_trained_on_photographs_follows_them_and_another_itself(photographs: Photographs) -> None:
    trained = load_checkpoint(find_checkpoint("drn_xs", Path())).build_network()
    targets, psnr, of_bicubic = suitable_targets(trained, photographs, 8)
    assert targets == "photographs"
    assert psnr > of_bicubic
    assert suitable_targets(Drawn(20.0), photographs, 8)[0] == "self"
    same = suitable_targets(Drawn(0.0), photographs, 8)
    assert same[1] == pytest.approx(same[2])  # the second implementation of the same interpolation


def test_fitted_duals_map_images_back_better_than_fresh_ones(
    photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_fit, "STEPS", STEPS)
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    fresh, fitted = network.build_duals(), network.build_duals()
    fit_duals(fitted, patches(photographs))
    images = patches(photographs).sample(10**6)
    with torch.no_grad():
        before, after = (float(dual_regression_losses(images, images, duals).dual) for duals in (fresh, fitted))
    assert after < 0.15 * before


def test_images_that_are_not_finite_are_an_error(photographs: Photographs) -> None:
    followed = FollowedPatches(patches(photographs), Drawn(float("nan")))
    with pytest.raises(TrainingError, match="NaN or infinite images"):
        fit_duals(build_network(ModelSpec("drn_xs", 4)).build_duals("single"), followed)
