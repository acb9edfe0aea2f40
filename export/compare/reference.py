"""The network as torch runs it over pixels: what every export is compared with."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drc_deploy.engine_info import Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.diagnosis import find_infinite_layer
from drc_deploy.models.network import SRNetwork
from drc_deploy.runtime.backends.contract import Pixels

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


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


def with_precision(network: SRNetwork, precision: Precision, spared: Sequence[str] = ()) -> PixelNetwork:
    """Return a copy of ``network`` over NHWC pixels, its body in ``precision`` except for the layers ``spared``."""
    network = copy.deepcopy(network).eval()
    if precision != "fp32":
        network.cast_body(DTYPES[precision], spared)
    return PixelNetwork(network)


def is_float32(network: SRNetwork, layer: str) -> bool:
    """Return whether ``network`` declares that a layer stays in float32 in every precision."""
    return any(f"{layer}.".startswith(f"{module}.") for module in network.float32_modules)


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
