"""What torch computes: the measure of every export."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.agreement import Pixels
from drc_deploy.export.compare.diagnosis import find_infinite_layer
from drc_deploy.export.compare.pixel_network import PixelNetwork


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


def to_tensor(batch: NDArray[np.uint8]) -> torch.Tensor:
    """Return pixels as the float32 that networks take."""
    return torch.from_numpy(batch.astype(np.float32))
