"""Low-resolution images as MATLAB's ``imresize`` makes them, on the device that trains.

Equal to ``drc_deploy.images.resize.resize_bicubic`` bit for bit, for reductions by 2, 4 and 8. Every weight is then a
whole multiple of 2^-16, and of values centred on zero no partial sum reaches 2^8: all sums are exact in float32, in any
order, with or without fused multiply-add. Sums are taken tap by tap: a matrix product or a convolution could be
rounded to TF32 or bfloat16 by settings that are made for the network.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.images.resize import cubic

CENTRE = 128
"""Taken off the 8-bit values, so that sums stay small."""


def margin(factor: int) -> int:
    """Return how many pixels around a region the reduction by an even ``factor`` looks at."""
    return 3 * factor // 2


def mirrored(positions: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring positions beyond an image of ``length`` pixels back into it; the edge pixels are repeated once."""
    positions = positions % (2 * length)
    inside: NDArray[np.int64] = np.minimum(positions, 2 * length - 1 - positions)
    return inside


def kernel(factor: int) -> NDArray[np.float64]:
    """Return the (4 * factor,) weights of one output pixel: Keys' cubic with a = -0.5, stretched by ``factor``."""
    return cubic((np.arange(4 * factor) + 0.5) / factor - 2) / factor


def reduce_bicubic(regions: Tensor, factor: int) -> Tensor:
    """Reduce: rows first, then columns, each rounded half up and clipped to 8 bits.

    Args:
        regions: (n, factor * (height + 3), factor * (width + 3), channels) float32, whole numbers in [0, 255]: what
            is to be reduced, with ``margin(factor)`` pixels more on each side.
        factor: 2, 4 or 8.

    Returns:
        (n, height, width, channels) float32, whole numbers in [0, 255], contiguous.
    """
    rows = _reduce(regions - CENTRE, factor)
    # Contiguous, because sums over strided columns would go three values at a time.
    columns = _reduce(rows.transpose(1, 2).contiguous(), factor)
    return columns.add_(CENTRE).transpose(1, 2).contiguous()


def _reduce(centred: Tensor, factor: int) -> Tensor:
    """Reduce dimension 1 of values in [-128, 127]."""
    last = centred.shape[1] - 4 * factor + 1
    taps = kernel(factor).tolist()
    total: Tensor = centred[:, 0:last:factor] * taps[0]
    for tap, weight in enumerate(taps[1:], start=1):
        total.add_(centred[:, tap : tap + last : factor], alpha=weight)
    return rounded(total)


def rounded(centred: Tensor) -> Tensor:
    """Round sums of values centred on zero to 8 bits, half up, in place."""
    return centred.add_(0.5).floor_().clamp_(-CENTRE, 255 - CENTRE)
