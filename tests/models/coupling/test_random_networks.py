"""Networks put together at random: whatever discovery finds in them passes the proof."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from drc_deploy.models.coupling.discovery import discover
from drc_deploy.models.proof import prove
from tests.models.coupling.networks import IMAGE, Net, Together, conv


def attention(x: Any, a: nn.Module, b: nn.Module) -> Any:
    return x * b(a(x.mean((2, 3), keepdim=True)).tanh()).sigmoid()


def perceptron(x: Any, a: nn.Module, b: nn.Module) -> Any:
    return b(F.gelu(a(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


Step = tuple[list[nn.Module], int, Callable[..., Any]]
"""Modules, channels that they give, and what is computed of x with them."""
OPS: list[Callable[[int], Step]] = [
    lambda c: ([conv(c, 7)], 7, lambda x, a: a(x)),
    lambda c: ([conv(c, 5), nn.PReLU(5)], 5, lambda x, a, p: p(a(x))),
    lambda c: ([conv(c, 2 * c, groups=c)], 2 * c, lambda x, a: a(x)),
    lambda c: ([nn.BatchNorm2d(c)], c, lambda x, norm: norm(x)),
    lambda c: ([conv(c, 20)], 5, lambda x, a: F.avg_pool2d(F.pixel_shuffle(a(x), 2), 2)),
    lambda c: ([conv(c, 4)], 16, lambda x, a: F.interpolate(F.pixel_unshuffle(a(x), 2), scale_factor=2)),
    lambda c: ([nn.Conv2d(c, 5, 1), nn.Conv2d(5, c, 1)], c, attention),
    lambda c: ([nn.ConvTranspose2d(c, 6, 2, 2)], 6, lambda x, a: F.max_pool2d(a(x), 2)),
    lambda c: ([conv(c, 6), conv(c, 6)], 6, lambda x, a, b: a(x) * b(x).sigmoid()),
    lambda c: ([nn.Linear(c, 7), nn.Linear(7, 5)], 5, perceptron),
    lambda c: ([conv(c, 6), conv(6, c)], c, lambda x, a, b: x + b(a(x).relu())),
    lambda c: ([conv(c, 5)], c + 5, lambda x, a: torch.cat((x, a(x)), 1)),
]


def random_network(seed: int) -> Net:
    choose, channels = random.Random(seed), 4
    modules: dict[str, nn.Module] = {"head": conv(3, 4), "last": nn.Identity()}
    steps: list[tuple[list[str], Callable[..., Any]]] = []
    for _ in range(6):
        made, channels, function = choose.choice(OPS)(channels)
        names = [f"m{len(modules) + i}" for i in range(len(made))]
        modules |= dict(zip(names, made, strict=True))
        steps.append((names, function))
    modules["last"] = conv(channels, 3)

    def forward(n: Any, x: Any) -> Any:
        x = n.head(x)
        for names, function in steps:
            x = function(x, *(getattr(n, name) for name in names))
        return n.last(x)

    return Net(forward, **modules)


def test_all_layers_that_are_found_can_be_cut() -> None:
    net = Together({f"seed{seed}": random_network(seed) for seed in range(8)})
    layers, _ = discover(net, IMAGE)
    assert len(layers) > 20
    kept, left_out = prove(net, layers, [IMAGE])
    assert left_out == []
    assert kept == layers
