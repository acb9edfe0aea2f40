"""How large the numbers are that each layer of a network meets on real images."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drc_deploy.export.compare.diagnosis import watched
from drc_deploy.export.compare.reference import PixelNetwork, to_tensor


def measure_ranges(network: PixelNetwork, batches: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
    """Run images through a float32 network and watch every layer that has weights.

    Args:
        network: in float32, over pixels.
        batches: (N, H, W, 3) uint8 RGB each.

    Returns:
        The largest magnitude of the inputs, the outputs and the weights of each layer, over all images. The layers are
        those of ``SRNetwork.weighted_layers`` that the upscaled image depends on, in the order of the computation.
    """
    found: dict[str, float] = {}

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = (*inputs, output) if name in found else (*inputs, output, *layer.parameters())
        found[name] = max(found.get(name, 0.0), *(float(value.abs().max()) for value in values if value.numel()))

    body = network.network
    with watched(body, body.weighted_layers(), record), torch.no_grad():
        for batch in batches:
            network(to_tensor(batch))
    return found
