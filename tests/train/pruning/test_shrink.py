"""Masked network and shrunk network give the same output, for every model and any mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drc_deploy.engine_info import taken_side
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import MODELS, build_network
from drc_deploy.train.pruning.prune import shrink
from tests.train.gating import masked as masked_network


def random_mask(width: int, generator: torch.Generator) -> list[int]:
    count = int(torch.randint(1, width + 1, (1,), generator=generator))
    return sorted(torch.randperm(width, generator=generator)[:count].tolist())


def constant(kept: list[int], width: int) -> Tensor:
    factors = torch.zeros(width)
    factors[kept] = 1
    return factors


def assert_masked_equals_shrunk(network: SRNetwork, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kept = [random_mask(width, generator) for width in network.widths]
    gates = {i: constant(channels, width) for i, (channels, width) in enumerate(zip(kept, network.widths, strict=True))}
    height, width = (taken_side(side, network.multiple_of, network.minimum) for side in (6, 7))
    lr = torch.rand(1, 3, height, width, generator=generator) * 255
    small = shrink(network, kept)
    if isinstance(network, BlindNetwork):  # a new one's deconvolution magnifies what float32 rounds
        network, small, lr = network.double(), small.double(), lr.double()
    with torch.no_grad():
        with masked_network(network, gates):
            masked = network(lr)
        shrunk = small(lr)
    for a, b in zip(masked, shrunk, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-4)  # values reach 255: 1e-5 of that, and summation order


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_masked_equals_shrunk_for_any_mask(seed: int) -> None:
    assert_masked_equals_shrunk(build_network(ModelSpec("drn_xs", 4)).eval(), seed)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, a in MODELS.items() for scale in a.builders])
def test_masked_equals_shrunk_for_every_model(name: str, scale: int) -> None:
    assert_masked_equals_shrunk(build_network(ModelSpec(name, scale)).eval(), seed=1)


def test_a_pruned_network_can_be_pruned_again() -> None:
    once = shrink(build_network(ModelSpec("drn_xs", 4)).eval(), [list(range(w // 2)) for w in (8, 16, *(32,) * 10)])
    assert_masked_equals_shrunk(once, seed=2)


def test_mean_shift_stays_frozen_after_shrinking() -> None:
    small = shrink(build_network(ModelSpec("drn_xs", 4)), [[0]] * 12)
    assert not small.get_parameter("sub_mean.weight").requires_grad
    assert small.get_parameter("head.weight").requires_grad
