"""Cut networks against masked ones, and against what their modules are made of."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from drc_deploy.models.cutting import mask_channels, narrow, select_channels
from drc_deploy.slices import PrunableLayer, Slice


class Mixed(nn.Module):
    """A dense block, a PixelShuffle, a depthwise convolution, norms, PReLU, a transposed convolution and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.dense = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.both, self.act = nn.Conv2d(11, 16, 1), nn.PReLU(16)
        self.depth, self.norm = nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8)
        self.up, self.linear = nn.ConvTranspose2d(8, 7, 2, 2), nn.Linear(7, 3, bias=False)
        for factor in (self.act.weight, self.norm.weight, self.norm.running_mean, self.norm.running_var):
            assert factor is not None
            nn.init.uniform_(factor, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x).relu()
        x = self.act(self.both(torch.cat((first, self.dense(first)), 1)))
        x = self.up(self.norm(self.depth(nn.functional.pixel_shuffle(x, 2))))
        result: Tensor = self.linear(x.sigmoid().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result


def both_ways(name: str) -> tuple[Slice, Slice]:
    return Slice(f"{name}.weight", 0), Slice(f"{name}.bias", 0)


LAYERS = (
    PrunableLayer("first", 6, both_ways("first"), (Slice("dense.weight", 1), Slice("both.weight", 1))),
    PrunableLayer("dense", 5, both_ways("dense"), (Slice("both.weight", 1, 6),)),
    PrunableLayer(
        "both",
        4,
        (
            Slice("both.weight", 0, 0, 4),
            Slice("both.bias", 0, 0, 4),
            Slice("act.weight", 0, 0, 4),
            *(Slice(f"depth.{kind}", 0, 0, 2) for kind in ("weight", "bias")),
            *(Slice(f"norm.{kind}", 0, 0, 2) for kind in ("weight", "bias", "running_mean", "running_var")),
        ),
        (Slice("up.weight", 0, 0, 2),),
    ),
    PrunableLayer("up", 7, (Slice("up.weight", 1), Slice("up.bias", 0)), (Slice("linear.weight", 1),)),
)
KEPT = ([0, 2, 5], [1, 4], [0, 3], [1, 2, 5])
IMAGE = torch.rand(1, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def cut(net: nn.Module, indices: range) -> tuple[nn.Module, Tensor]:
    """Cut these layers; the output that masking gives comes along."""
    layers, kept = [LAYERS[i] for i in indices], [KEPT[i] for i in indices]
    state, narrower = net.state_dict(), copy.deepcopy(net)
    narrow(narrower, layers, [len(channels) for channels in kept])
    narrower.load_state_dict(select_channels(state, layers, kept))
    with torch.no_grad():
        return narrower, functional_call(net, mask_channels(state, layers, kept), (IMAGE,))


@pytest.mark.parametrize("indices", [*(range(i, i + 1) for i in range(len(LAYERS))), range(len(LAYERS))])
def test_a_cut_network_computes_what_masking_does_and_less(indices: range) -> None:
    net = Mixed().double().eval()
    narrower, masked = cut(net, indices)
    with torch.no_grad():
        torch.testing.assert_close(narrower(IMAGE), masked, rtol=1e-12, atol=1e-12)
        assert (net(IMAGE) - masked).abs().max() > 1e-3
    assert sum(p.numel() for p in narrower.parameters()) < sum(p.numel() for p in net.parameters())


def test_modules_know_their_new_sizes() -> None:
    net = cut(Mixed().double().eval(), range(len(LAYERS)))[0]
    assert isinstance(net, Mixed)
    fresh = {
        "dense": nn.Conv2d(3, 2, 3, padding=1),
        "both": nn.Conv2d(5, 8, 1),
        "act": nn.PReLU(8),
        "depth": nn.Conv2d(2, 4, 3, padding=1, groups=2),
        "norm": nn.BatchNorm2d(4),
        "up": nn.ConvTranspose2d(4, 3, 2, 2),
        "linear": nn.Linear(3, 3, bias=False),
    }
    assert {name: str(net.get_submodule(name)) for name in fresh} == {name: str(m) for name, m in fresh.items()}


def test_narrowing_needs_no_memory_and_keeps_what_is_frozen() -> None:
    with torch.device("meta"):
        net = Mixed()
    net.first.requires_grad_(False)
    narrow(net, LAYERS, [len(channels) for channels in KEPT])
    assert net.first.weight.is_meta
    assert net.first.weight.shape == (3, 3, 3, 3)
    assert not net.first.weight.requires_grad
    assert net.both.weight.requires_grad


def test_full_widths_change_nothing() -> None:
    net = Mixed()
    before = dict(net.named_parameters())
    narrow(net, LAYERS, [layer.full_width for layer in LAYERS])
    assert all(parameter is before[name] for name, parameter in net.named_parameters())
