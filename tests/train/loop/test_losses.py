"""The loss and its variants match their formulas."""

from typing import get_args

import pytest
import torch
from torch import nn

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.loop.losses import dual_design, dual_regression_losses, map_back
from drc_deploy.train.loop.run_options import DualVariant, TrainOptions
from drc_deploy.train.loop.trainer import DualRegression, Trainer


def pyramid(side: int = 4) -> list[torch.Tensor]:
    return [torch.rand(2, 3, side * k, side * k) for k in (1, 2, 4)]


def mean_absolute(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().mean())


def test_progressive_duals_compare_each_scale_with_the_next_coarser() -> None:
    outputs, targets = pyramid(), pyramid()
    halve = nn.ModuleList(nn.AvgPool2d(2) for _ in range(2))
    losses = dual_regression_losses(outputs, targets, halve)
    primal = sum(mean_absolute(o, t) for o, t in zip(outputs, targets, strict=True))
    dual = sum(mean_absolute(halve[i](outputs[i + 1]), targets[i]) for i in range(2))
    assert float(losses.primal) == pytest.approx(primal)
    assert float(losses.total(0.1)) == pytest.approx(primal + 0.1 * dual)


def test_a_single_dual_compares_the_finest_image_with_the_input() -> None:
    outputs, targets = pyramid(), pyramid()
    quarter = nn.ModuleList([nn.AvgPool2d(4)])
    losses = dual_regression_losses(outputs, targets, quarter)
    assert float(losses.dual) == pytest.approx(mean_absolute(quarter[0](outputs[2]), targets[0]))


def test_without_duals_only_the_primal_part_is_left() -> None:
    assert float(dual_regression_losses(pyramid(), pyramid(), nn.ModuleList()).dual) == 0


def test_mapping_back_goes_through_every_dual_finest_first() -> None:
    """Coordinates would be lost if the order were another: the scales of the two reductions differ."""
    hr = torch.rand(1, 3, 16, 16)
    duals = nn.ModuleList([nn.Sequential(nn.AvgPool2d(2), nn.ReLU()), nn.Sequential(nn.AvgPool2d(2), nn.Hardtanh())])
    expected = torch.relu(nn.functional.avg_pool2d(nn.functional.hardtanh(nn.functional.avg_pool2d(hr * 3, 2)), 2))
    torch.testing.assert_close(map_back(duals, hr * 3), expected)


@torch.no_grad()
def test_the_second_cycle_adds_the_error_of_hr_mapped_down_and_up() -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    duals = network.build_duals()
    images = [image * 255 for image in pyramid(8)]
    plain, cycled = (
        DualRegression(network, duals, hr_cycle=hr_cycle, precision="fp32")(images) for hr_cycle in (False, True)
    )
    lr = duals[0](duals[1](images[2]))
    assert float(cycled[0]) == pytest.approx(float(plain[0]))
    assert float(cycled[1] - plain[1]) == pytest.approx(mean_absolute(network(lr)[-1], images[2]), rel=1e-4)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("variant", get_args(DualVariant))
def test_every_variant_trains_its_duals_and_the_network(variant: DualVariant, scale: int) -> None:
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", scale))
    trainer = Trainer(
        network, network.build_duals(dual_design(variant)), TrainOptions(2, 2, 8, dual=variant, learning_rate=1e-3)
    )
    assert bool(trainer.duals) == (variant != "none")
    before = [p.clone() for p in trainer.duals.parameters()]
    for _ in range(2):
        trainer.update([torch.rand(2, 3, 8 << k, 8 << k) * 255 for k in range(scale.bit_length())])
    for old, new in zip(before, trainer.duals.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_sizes_of_the_duals_are_those_of_the_paper() -> None:
    """DRN-S: 54 * 16 parameters each; twice the features, twice that; the single one as in the authors' SwinIR."""
    network = build_network(ModelSpec("drn_s", 4))
    sizes = {design: sum(p.numel() for p in network.build_duals(design).parameters())
             for design in ("progressive", "wide", "single")}  # fmt: skip
    assert sizes == {"progressive": 2 * 864, "wide": 4 * 864, "single": 3168}
    assert network.build_duals("single")[0](torch.rand(1, 3, 32, 48)).shape == (1, 3, 8, 12)
