"""Discovery on DRN against the layers that its authors narrow, which it declares by hand."""

import pytest
import torch

from drc_deploy.models.coupling.discovery import discover
from drc_deploy.models.drn import DRN, DRNConfig
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.proof import prove
from drc_deploy.models.registry import build_network
from drc_deploy.slices import Slice

IMAGE = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255


def small(scale: int) -> SRNetwork:
    return DRN(ModelSpec("small", scale), DRNConfig(features=16, blocks=2))


def declared(network: SRNetwork) -> list[tuple[int, tuple[Slice, ...], tuple[Slice, ...]]]:
    """Return width, made and read of each declared layer."""

    return [(layer.full_width, layer.made, layer.read) for layer in network.prunable_layers]


def undeclared(network: DRN) -> set[str]:
    """Return what can be cut too: hidden layers of channel attention, and both layers that only tails read on."""
    attention = {name: len(m.weight) for name, m in network.named_modules() if name.endswith("conv_du.0")}
    wide = {name for name, width in attention.items() if width > 3}  # no more than colours are no layer
    return wide | {"head", f"up_blocks.{network.phases - 1}.{network.config.blocks + 1}"}


def assert_declared_is_found(network: SRNetwork) -> None:
    assert isinstance(network, DRN)
    layers, _ = discover(network, IMAGE)
    inner = [layer for layer in layers if not layer.trunk]
    more = [layer for layer in inner if layer.name in undeclared(network)]
    assert {layer.name for layer in more} == undeclared(network)
    rest = [(layer.full_width, layer.made, layer.read) for layer in inner if layer not in more]
    assert rest == declared(network)


@pytest.mark.parametrize("scale", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_what_is_declared_is_found_in_the_same_order(scale: int) -> None:
    assert_declared_is_found(small(scale).eval())


@pytest.mark.parametrize("name", ["drn_xs", pytest.param("drn_s", marks=pytest.mark.slow)])
def test_the_real_networks_too(name: str) -> None:
    assert_declared_is_found(build_network(ModelSpec(name, 4)).eval())


def test_what_is_declared_passes_the_proof() -> None:
    network = small(4).eval()
    layers, _ = discover(network, IMAGE)
    kept, left_out = prove(network, layers, [IMAGE])
    assert {layer.name for layer in layers} - {layer.name for layer in kept} == {each.name for each in left_out}
    assert all("conv_du" in each.name for each in left_out)
    assert all("change nothing" in each.reason for each in left_out)  # ReLUs of attention that are never positive
