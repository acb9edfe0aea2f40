"""How large the numbers are that each layer of a network meets on real images."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drc_deploy.export.compare.reference import PixelNetwork


@dataclass(slots=True)
class LayerRange:
    """Largest magnitudes at one layer, over all images, in float32."""

    input: float
    output: float
    weight: float

    @property
    def largest(self) -> float:
        """The largest of the three."""
        return max(self.input, self.output, self.weight)


def measure_ranges(network: PixelNetwork, batches: Iterable[NDArray[np.uint8]]) -> dict[str, LayerRange]:
    """Run images through a float32 network and watch every layer that has weights.

    Args:
        network: in float32, over pixels.
        batches: (N, H, W, 3) uint8 RGB each.

    Returns:
        A range for each name of ``SRNetwork.weighted_layers`` that the upscaled image depends on, in the order of the
        computation.
    """
    found: dict[str, LayerRange] = {}

    def watch(name: str, layer: nn.Module) -> "torch.utils.hooks.RemovableHandle":
        def record(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            entry = found.setdefault(name, LayerRange(0, 0, max(_largest(value) for value in layer.parameters())))
            entry.input = max(entry.input, *(_largest(value) for value in inputs))
            entry.output = max(entry.output, _largest(output))

        return layer.register_forward_hook(record)

    body = network.network
    handles = [watch(name, body.get_submodule(name)) for name in body.weighted_layers()]
    try:
        with torch.no_grad():
            for batch in batches:
                network(torch.from_numpy(batch.astype(np.float32)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
