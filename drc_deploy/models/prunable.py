"""What can be cut in a network of another program, found and shown once, when it is imported."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from drc_deploy.models.coupling.discovery import discover
from drc_deploy.models.foreign import ForeignNetwork
from drc_deploy.models.network import WEIGHTED, uses_of_weights
from drc_deploy.models.proof import prove
from drc_deploy.slices import LeftOut, PrunableLayer, Slice

LEAST_PX = 16
"""Side of the image on which channels are followed; larger where the network takes no such image."""
COUNTED_PX = 64


@dataclass(frozen=True, slots=True)
class Prunable:
    """What was found; by the names of ``ForeignSpec``."""

    layers: tuple[PrunableLayer, ...]
    left_out: tuple[LeftOut, ...]
    cuttable_params: float
    """Share of the parameters in tensors that a layer narrows, layers of the trunk aside."""
    cuttable_multiply_adds: float
    """Share of the multiply-adds in weights that a layer narrows, layers of the trunk aside."""


def find_prunable(network: ForeignNetwork) -> Prunable:
    """Find the layers of an unpruned network that can be cut, each shown by cutting it.

    Args:
        network: On the CPU, with trained weights.
    """
    multiple = network.multiple_of
    side = network.taken_side(LEAST_PX)
    generator = torch.Generator().manual_seed(0)
    channels, white = network.foreign.channels, network.foreign.value_range
    # Other sides than the first: what was fixed to its size would show.
    first, second = (
        torch.rand(1, channels, height, width, generator=generator) * white
        for height, width in ((side, side), (side, side + multiple * -(-4 // multiple)))
    )
    found, unfit = discover(network.net, first)
    usual = _called_once(network.net, first)
    uncalled = [layer for layer in found if not usual.issuperset(part.module for part in layer.read)]
    why = "weights that read it are used other than by calling their module once"
    unfit += [LeftOut(layer.name, why) for layer in uncalled]
    layers, failed = prove(network.net, [layer for layer in found if layer not in uncalled], [first, second])
    named = tuple(_in_network(layer) for layer in layers)
    touched = {part.tensor for layer in named if not layer.trunk for part in layer.slices}
    params, madds = _shares(network, touched)
    return Prunable(named, tuple(unfit + failed), params, madds)


def _called_once(net: nn.Module, image: Tensor) -> set[str]:
    """Return the modules of ``WEIGHTED`` types that compute as torch does and are called once, with one tensor.

    Search and pruning look at what a module reads and gives, so code that takes only its weight would escape them.
    """
    calls: dict[str, list[bool]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, inputs, named, _output: calls.setdefault(name, []).append(len(inputs) == 1 and not named)

    named = {name: module for name, module in net.named_modules() if isinstance(module, WEIGHTED)}
    handles = [module.register_forward_hook(note(name), with_kwargs=True) for name, module in named.items()]
    try:
        with torch.no_grad():
            net(image.clone())
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, module in named.items() if calls.get(name) == [True] and _computes_as_torch(module)}


def _computes_as_torch(module: nn.Module) -> bool:
    kind = next(kind for kind in WEIGHTED if isinstance(module, kind))
    return all(getattr(type(module), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))


def _in_network(layer: PrunableLayer) -> PrunableLayer:
    """Return a layer of the module by the names of the network around it."""

    def renamed(parts: tuple[Slice, ...]) -> tuple[Slice, ...]:
        return tuple(replace(part, tensor=f"net.{part.tensor}") for part in parts)

    return replace(layer, made=renamed(layer.made), read=renamed(layer.read))


def _shares(network: ForeignNetwork, touched: set[str]) -> tuple[float, float]:
    """Return the shares of parameters and multiply-adds in ``touched`` tensors. The network stays on the CPU."""
    uses = uses_of_weights(network, COUNTED_PX, COUNTED_PX)
    counts = [
        (name in touched, parameter.numel(), parameter.numel() * uses.get(name, 0))
        for name, parameter in network.named_parameters()
    ]
    return _share([(cut, params) for cut, params, _ in counts]), _share([(cut, madds) for cut, _, madds in counts])


def _share(counts: list[tuple[bool, int]]) -> float:
    return sum(count for cut, count in counts if cut) / max(1, sum(count for _, count in counts))
