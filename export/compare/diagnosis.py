"""Which layer is the first to go wrong in float16."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

LARGEST_HALF = 65504.0
DEVIATION = 0.05
"""Relative error at which a layer counts as wrong: fifty times what one rounding to float16 costs."""


def find_layer_fault(full: nn.Module, half: nn.Module, pixels: Tensor) -> str | None:
    """Compare every layer's output in both precisions, in the order of computation.

    Args:
        full: the network in float32.
        half: the same network with its body in float16.
        pixels: an input for both.

    Returns:
        Name and fault of the first layer that overflows or deviates by more than ``DEVIATION``; None without one.
    """
    expected = _record(full, pixels)
    found = _record(half, pixels)
    for name, value in found.items():
        if not torch.isfinite(expected[name]).all():
            return f"{name}, whose output is not finite even in float32"
        largest = float(expected[name].abs().max())
        if not torch.isfinite(value).all():
            return f"{name}, which overflows: up to {largest:.4g} in float32, and float16 ends at {LARGEST_HALF:.0f}"
        deviation = float((value - expected[name]).norm() / expected[name].norm().clamp_min(1e-12))
        if deviation > DEVIATION:
            return f"{name}, which deviates by {deviation:.1%} (up to {largest:.4g} in float32)"
    return None


def find_infinite_layer(network: nn.Module, pixels: Tensor) -> str:
    """Name the first layer whose output is not finite."""
    outputs = _record(network, pixels)
    return next((name for name, value in outputs.items() if not torch.isfinite(value).all()), "none by itself")


def _record(network: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Run the network and return each leaf layer's output in float32, in the order of computation."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, _layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            # A copy: the next layer may work in place. float() copies only what is not float32 already.
            outputs[name] = output.to(torch.float32, copy=True)

    # Only leaves: the output of a block is that of its last layer.
    leaves = [name for name, module in network.named_modules() if not list(module.children())]
    with watched(network, leaves, keep), torch.no_grad():
        network(pixels)
    return outputs


@contextmanager
def watched(network: nn.Module, names: Iterable[str], watch: Callable[..., None]) -> Iterator[None]:
    """Call ``watch`` with name, layer, inputs and output whenever one of the layers ``names`` runs in the block."""
    handles = [network.get_submodule(name).register_forward_hook(partial(watch, name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
