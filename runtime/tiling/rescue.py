"""Tiles that overflow in half precision are recomputed in float32, and counted.

A network whose activations outgrow float16 gives NaN, which an 8-bit output shows as black. A result that is an image
of its input has nearly the input's brightness wherever one looks.
"""

import logging
from collections.abc import Callable

import cv2
import numpy as np

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Backend, Pixels

BLOCK_PX = 16
"""Side of the areas, in input pixels, whose brightness is compared."""
LARGEST_SHIFT = 64.0
"""Grey levels by which the mean of an area may differ between input and result."""
LARGEST_CLIPPED_SHIFT = 8.0
"""The same where all of the area is 0 or 255: NaN and infinity become these in 8 bits."""

_log = logging.getLogger(__name__)


def is_broken(tile: Pixels, result: Pixels) -> bool:
    """Return whether a result cannot be an image of its tile.

    Args:
        tile: (H, W, 3) in [0, 255], as the network got it.
        result: (scale*H, scale*W, 3) in about [0, 255], as the network gave it.
    """
    if result.dtype != np.uint8 and not np.isfinite(result).all():
        return True
    scale = len(result) // len(tile)
    seen = result[scale // 2 :: scale, scale // 2 :: scale]  # one pixel of each input pixel is enough for means
    means = _block_means(seen)
    allowed = np.where((means < 0.01) | (means > 254.99), LARGEST_CLIPPED_SHIFT, LARGEST_SHIFT)
    return bool((np.abs(means - _block_means(tile)) > allowed).any())


def _block_means(pixels: Pixels) -> Pixels:
    height, width = (-(-side // BLOCK_PX) for side in pixels.shape[:2])
    return cv2.resize(pixels.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)


class Rescue:
    """Checks every result of a half-precision network, and recomputes broken tiles with another one.

    Attributes:
        count: Tiles that were computed again so far.
    """

    def __init__(
        self, open_float32: Callable[[], Backend] | None, open_blind: Callable[[], Backend] | None = None
    ) -> None:
        """Take what opens the same network in float32, when it is needed first; None: there is none.

        ``open_blind`` opens the one that takes blur kernels.
        """
        self._open = {False: open_float32, True: open_blind}
        self._opened: dict[bool, Backend] = {}
        self.count = 0

    def mend(self, batch: Pixels, results: Pixels, kernel: Pixels | None = None) -> Pixels:
        """Return the results of a batch with every broken one replaced.

        Args:
            batch: (N, H, W, 3) as the network got it.
            results: (N, scale*H, scale*W, 3) as the network gave them.
            kernel: (k, k) float32 that a blind network was given; None: none.

        Raises:
            ArtefactError: a tile is broken and there is no other network, or it is broken there too.
        """
        broken = [
            index for index, (tile, result) in enumerate(zip(batch, results, strict=True)) if is_broken(tile, result)
        ]
        if not broken:
            return results
        results = results.copy()
        for index in broken:
            results[index] = self._again(batch[index], kernel)
        return results

    def _again(self, tile: Pixels, kernel: Pixels | None) -> Pixels:
        network = self._network(blind=kernel is not None)
        self.count += 1
        if kernel is not None:
            network = network.with_kernel(kernel)
        result: Pixels = network.run(tile[None])[0]
        if is_broken(tile, result):
            raise ArtefactError(
                "what the network makes of a tile is no image of that tile, in float32 too.",
                "The file is damaged, or computes something else: use another.",
            )
        return result

    def _network(self, *, blind: bool) -> Backend:
        if blind not in self._opened:
            opens = self._open[blind]
            if opens is None:
                raise ArtefactError(
                    "what the network makes of a tile is no image of that tile, and no float32 network is there.",
                    "If half precision overflows: keep the ONNX files next to the plan, or export with --precision "
                    "fp32. `drc-deploy verify` finds a file that computes something else.",
                )
            self._opened[blind] = opens()
            device = self._opened[blind].device
            _log.warning("Tiles of this image overflow in half precision: recomputing them with %s.", device)
        return self._opened[blind]

    def close(self) -> None:
        """Free the other networks."""
        for network in self._opened.values():
            network.close()
