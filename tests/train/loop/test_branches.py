"""Branches against what each of them computes on images, and through a whole training."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.branches import BranchedKernel, Branches
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.training import fresh_start, train
from tests.train.runs import OPTIONS, train_fresh

SPEC = ModelSpec("drn_es", 2)


def test_a_branched_kernel_is_the_sum_of_what_its_branches_compute() -> None:
    torch.manual_seed(1)
    kernel = BranchedKernel(torch.randn(5, 3, 3, 3))
    for parameter in kernel.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 3, 9, 8)
    long = F.conv2d(F.conv2d(x, kernel.expand[:, :, None, None]), kernel.reduce, padding=1)
    branches = F.conv2d(x, kernel.plain, padding=1) + F.conv2d(x, kernel.point[:, :, None, None]) + long
    assert torch.allclose(F.conv2d(x, kernel(), padding=1), branches, rtol=1e-4, atol=1e-4)


def test_sums_are_float32_under_autocast() -> None:
    """Training must compute with the kernels that the result holds, and images need more than 8 bits."""
    branches = Branches(build_network(SPEC))
    for parameter in branches.parameters():
        torch.nn.init.normal_(parameter)
    with torch.autocast("cpu", torch.bfloat16):
        cast = branches.merged()
    assert all(torch.equal(cast[name], kernel) for name, kernel in branches.merged().items())


def test_branches_change_no_image_before_training_and_all_learn_in_it() -> None:
    network = build_network(SPEC)
    lr = torch.rand(1, 3, 9, 8) * 255
    before = network.upscale(lr)
    trainer = Trainer(network, network.build_duals("single"), TrainOptions(steps=3, dual="single", branches=True))
    assert trainer.branches is not None
    assert torch.equal(trainer.branches.run(network, lr)[0], before)
    start = {name: tensor.clone() for name, tensor in trainer.branches.state_dict().items()}
    for _ in range(3):
        trainer.update([lr, torch.rand(1, 3, 18, 16) * 255])
    assert [name for name, tensor in trainer.branches.state_dict().items() if torch.equal(tensor, start[name])] == []
    with trainer.final_weights(), torch.no_grad():
        assert torch.allclose(network.upscale(lr), trainer.branches.run(network, lr)[0], atol=1e-3)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_result_holds_merged_kernels_under_the_names_of_the_network(
    ema: float, photographs: Photographs, tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, dual="single", branches=True, ema=ema)
    result = train_fresh(photographs, options, tmp_path / "b.safetensors", SPEC)
    torch.manual_seed(options.seed)
    start = build_network(SPEC).state_dict()
    assert [name for name, tensor in result.weights.items() if torch.equal(tensor, start[name])] == []
    assert set(result.weights) == set(build_network(SPEC).state_dict())
    assert result.provenance["branches"] is True


def test_only_convolutions_of_3x3_that_learn_have_branches() -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    frozen = "up_blocks.0.0.body.0.weight"
    network.get_parameter(frozen).requires_grad_(False)
    names = set(Branches(network).merged())
    assert {"head.weight", "up_blocks.0.0.body.2.weight"} <= names
    assert {frozen, "sub_mean.weight", "up_blocks.0.0.body.3.conv_du.0.weight"} & names == set()


def test_a_kernel_that_layers_share_has_one_sum_and_one_that_is_computed_has_none() -> None:
    """As in networks of others."""
    network = build_network(SPEC)
    network.convolution("blocks.1.conv1").weight = network.convolution("blocks.0.conv1").weight
    torch.nn.utils.parametrizations.weight_norm(network.convolution("end"))
    branches, lr = Branches(network), torch.rand(1, 3, 9, 8) * 255
    assert torch.equal(branches.run(network, lr)[0], network.upscale(lr))
    assert {"blocks.1.conv1.weight", "end.weight"} & set(branches.merged()) == set()


def test_a_network_without_3x3_convolutions_is_refused_before_anything_is_made(
    photographs: Photographs, tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, dual="single", branches=True)
    start = fresh_start(SPEC, options)
    start.network.requires_grad_(False)
    with pytest.raises(UsageError, match="drn_es has no 3x3 convolutions"):
        train(start, photographs, options, tmp_path / "b.safetensors")
    assert list(tmp_path.iterdir()) == []
