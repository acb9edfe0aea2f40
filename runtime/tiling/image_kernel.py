"""The blur kernel of a whole image: seams would come from tiles with kernels of their own."""

from collections.abc import Callable

import numpy as np

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Backend, Pixels
from drc_deploy.runtime.tiling.strips import tile_batches
from drc_deploy.runtime.tiling.tiles import TilePlan


def estimate_kernel(
    backend: Backend, image: Pixels, plan: TilePlan, on_tiles: Callable[[int], None] | None = None
) -> Pixels:
    """Return the blur kernel of an image, (k, k) float32: the mean of those of its tiles.

    Args:
        backend: a blind network.
        image: (H, W, 3) uint8, or uint16 when the network takes float32.
        plan: made for this image's size and this network.
        on_tiles: called with the number of tiles just done.

    Raises:
        ArtefactError: the network failed, or gave NaN or infinity.
    """
    kernels = []
    for found in backend.estimated_kernels(tile_batches(backend, image, plan)):
        kernels.append(found)
        if on_tiles is not None:
            on_tiles(len(found))
    kernel: Pixels = np.concatenate(kernels).mean(axis=0)
    if not np.isfinite(kernel).all():
        raise ArtefactError(
            "the network gave NaN or infinity for the blur of this image.", "Use an fp32 engine of the same checkpoint."
        )
    return kernel
