"""Discovery against Torch-Pruning, an independent implementation of the same idea."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from drc_deploy.models.coupling.discovery import discover
from drc_deploy.models.cutting import narrow, select_channels
from drc_deploy.slices import PrunableLayer
from tests.models.coupling.cases import dense, residual
from tests.models.coupling.networks import IMAGE, Net, conv

torch_pruning: Any = pytest.importorskip("torch_pruning")
KEPT = (1, 2, 4)


def compact() -> Net:
    """Return a chain with PReLU, as Compact is."""
    return Net(
        lambda n, x: F.interpolate(x, scale_factor=2) + F.pixel_shuffle(n.c(n.q(n.b(n.p(n.a(x))))), 2),
        a=conv(3, 8),
        p=nn.PReLU(8),
        b=conv(8, 8),
        q=nn.PReLU(8),
        c=conv(8, 12),
    )


NETWORKS: dict[str, Callable[[], Net]] = {
    "compact": compact,
    "dense": lambda: Net(dense, head=conv(3, 8), a=conv(8, 5), b=conv(13, 6), tail=conv(19, 3)),
    "residual": lambda: Net(residual, head=conv(3, 8), a=conv(8, 6), b=conv(6, 8), tail=conv(8, 3)),
    "norms": lambda: Net(
        lambda n, x: n.b(n.norm(n.d(n.a(x)))),
        a=conv(3, 8),
        d=conv(8, 8, groups=8),
        norm=nn.BatchNorm2d(8),
        b=conv(8, 3),
    ),
}


def cut_here(net: Net, layer: PrunableLayer) -> nn.Module:
    cut = copy.deepcopy(net)
    narrow(cut, [layer], [len(KEPT)])
    cut.load_state_dict(select_channels(net.state_dict(), [layer], [KEPT]))
    return cut


def cut_there(net: Net, layer: PrunableLayer) -> nn.Module:
    cut = copy.deepcopy(net)
    graph = torch_pruning.DependencyGraph().build_dependency(cut, example_inputs=IMAGE)
    gone = [channel for channel in range(layer.full_width) if channel not in KEPT]
    producer = cut.get_submodule(layer.name)
    graph.get_pruning_group(producer, torch_pruning.prune_conv_out_channels, idxs=gone).prune()
    return cut


@pytest.mark.parametrize("name", NETWORKS)
def test_both_cut_the_same_out_of_every_layer(name: str) -> None:
    net = NETWORKS[name]()
    layers, _ = discover(net, IMAGE)
    assert layers
    for layer in layers:
        ours, theirs = cut_here(net, layer), cut_there(net, layer)
        assert str(ours) == str(theirs)
        for tensor, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[tensor], value), tensor
