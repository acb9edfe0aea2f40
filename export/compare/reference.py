"""The network as torch runs it over pixels: what every export is compared with."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drc_deploy.errors import VerificationError
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import SRNetwork
from drc_deploy.runtime.backends.contract import Pixels


class PixelNetwork(nn.Module):
    """A network over NHWC images, as files and video frames lie in memory."""

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        """(N, H, W, 3) float32 in [0, 255] -> (N, scale*H, scale*W, 3) float32, unclamped."""
        # Without contiguous() the network would see channels-last memory, which some operations export badly.
        sr = self.network.upscale(lr.permute(0, 3, 1, 2).contiguous())
        return sr.permute(0, 2, 3, 1).contiguous()


class BlindPixelNetwork(nn.Module):
    """A blind network over NHWC images, which returns the kernels that it estimates too."""

    def __init__(self, network: BlindNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) -> as ``PixelNetwork``, and (N, 1, k, k)."""
        planes = lr.permute(0, 3, 1, 2).contiguous()
        kernel = self.network.estimate(planes)
        return self.network.restore(planes, kernel).permute(0, 2, 3, 1).contiguous(), kernel


def pixel_network(network: SRNetwork) -> PixelNetwork:
    """Return a copy of ``network`` over NHWC pixels, for inference."""
    return PixelNetwork(copy.deepcopy(network).eval())


def reference_outputs(full: PixelNetwork, batches: Sequence[NDArray[np.uint8]]) -> list[Pixels]:
    """Return the output of a float32 network, clipped to [0, 255].

    Raises:
        VerificationError: it is not finite.
    """
    outputs = [run_torch(full, batch) for batch in batches]
    for batch, output in zip(batches, outputs, strict=True):
        if not np.isfinite(output).all():
            layer = find_infinite_layer(full, to_tensor(batch))
            raise VerificationError(
                f"the network gives NaN or infinite pixels in float32. First layer at fault: {layer}.",
                "Train again, or use an older checkpoint.",
            )
    return [np.clip(output, 0, 255) for output in outputs]


def run_torch(network: PixelNetwork, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Upscale (N, H, W, 3) uint8 RGB to float32 of scale times the size, unclipped."""
    with torch.no_grad():
        output: NDArray[np.float32] = network(to_tensor(batch)).numpy()
    return output


def to_tensor(batch: NDArray[np.uint8]) -> Tensor:
    """Return pixels as the float32 that networks take."""
    return torch.from_numpy(batch.astype(np.float32))


def find_infinite_layer(network: nn.Module, pixels: Tensor) -> str:
    """Name the first layer of a torch network whose output is not finite."""
    infinite: list[str] = []

    def watch(name: str) -> Any:
        def look(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not torch.isfinite(output).all():
                infinite.append(name)

        return look

    # Only leaves: the output of a block is that of its last layer.
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            network(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return next(iter(infinite), "none by itself")
