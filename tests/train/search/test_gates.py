"""The gate equals the paper's mixture of candidate layers."""

import torch
from torch import nn
from torch.nn import functional as F

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.slices import Slice
from drc_deploy.train.reader import Reader, readers
from drc_deploy.train.search.gates import channel_energy, gated, mixture_gate, ranked
from drc_deploy.train.search.search_options import candidate_widths


def reading(convolution: nn.Conv2d) -> list[Reader]:
    return [Reader(nn.ModuleDict({"c": convolution}), Slice("c.weight", 1), convolution.in_channels)]


def test_gated_convolution_is_the_weighted_sum_of_all_candidates() -> None:
    """Equation 3: sum over v of p_v times the layer cut to its v most important channels."""
    convolution = nn.Conv2d(10, 6, 3, padding=1)
    candidates = torch.tensor([2, 4, 4, 7, 9, 10])
    alpha = torch.randn(6)
    x = torch.randn(2, 10, 5, 5)
    importance = channel_energy(reading(convolution), x)
    order = importance.argsort(descending=True)
    expected = torch.zeros(2, 6, 5, 5)
    for probability, count in zip(torch.softmax(alpha, 0), candidates, strict=True):
        kept = order[: int(count)]
        expected += probability * F.conv2d(x[:, kept], convolution.weight[:, kept], convolution.bias, padding=1)
    gate = mixture_gate(alpha, candidates, ranked(importance))
    torch.testing.assert_close(convolution(x * gate[:, None, None]), expected)


def test_gate_gradient_matches_finite_differences() -> None:
    alpha = torch.randn(4, dtype=torch.float64, requires_grad=True)
    candidates, rank = torch.tensor([1, 2, 4, 6]), ranked(torch.rand(6))
    assert torch.autograd.gradcheck(lambda a: mixture_gate(a, candidates, rank), (alpha,))


def test_channel_energy_is_what_removing_a_channel_changes() -> None:
    """For white noise, the channel's share in the mean square of the output, summed over outputs."""
    convolution = nn.Conv2d(4, 3, 3, bias=False)
    x = (
        torch.randn(64, 4, 32, 32, generator=torch.Generator().manual_seed(1))
        * torch.tensor([0.1, 1, 2, 5])[:, None, None]
    )
    with torch.no_grad():
        change = torch.stack(
            [F.conv2d(x[:, [c]], convolution.weight[:, [c]]).square().mean((0, 2, 3)).sum() for c in range(4)]
        )
    torch.testing.assert_close(channel_energy(reading(convolution), x), change, rtol=0.05, atol=0)


def test_channel_energy_does_not_see_how_a_pair_shares_its_gain() -> None:
    convolution, x, gain = nn.Conv2d(4, 3, 3), torch.randn(2, 4, 8, 8), torch.tensor([0.5, 1, 4, 100])[:, None, None]
    before = channel_energy(reading(convolution), x)
    with torch.no_grad():
        convolution.weight /= gain
    torch.testing.assert_close(channel_energy(reading(convolution), x * gain), before)


def test_gates_are_gone_after_the_block() -> None:
    network = build_network(ModelSpec("drn_xs", 4)).eval()
    lr = torch.rand(1, 3, 5, 5) * 255
    with torch.no_grad():
        before = network.upscale(lr)
        with gated({readers(network, 3)[0].module: lambda x: torch.zeros(32)}):
            assert not torch.equal(network.upscale(lr), before)
        assert torch.equal(network.upscale(lr), before)


def test_candidates_are_those_of_the_authors() -> None:
    """Facts: floor(c * (1 - r) * v), to the nearest multiple of 4, ties down, in [4, c]."""
    assert candidate_widths(64, 0.3) == [20, 24, 32, 36, 40, 44]
    assert candidate_widths(64, 0.5) == [16, 20, 20, 24, 28, 32]
    assert candidate_widths(64, 0.7) == [8, 12, 12, 16, 16, 20]
    assert candidate_widths(80, 0.7) == [12, 12, 16, 20, 20, 24]
    assert candidate_widths(40, 0.7) == [4, 8, 8, 8, 8, 12]
    assert candidate_widths(120, 0.5) == [28, 36, 40, 48, 52, 60]
    assert candidate_widths(256, 0.3) == [88, 108, 124, 144, 160, 180]
    assert candidate_widths(8, 0.3) == [4] * 6
