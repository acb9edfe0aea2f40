"""Bicubic resizing as MATLAB's ``imresize`` does it, which made the LR images that the literature scores on."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUBIC_A = -0.5
"""MATLAB's cubic; torch and OpenCV use -0.75."""


def resize_bicubic(
    image: NDArray[np.uint8], height: int, width: int, *, round_between: bool = True
) -> NDArray[np.uint8]:
    """Resize with an antialiased cubic kernel and mirrored borders: rows first, then columns.

    Args:
        image: (H, W) or (H, W, C) uint8.
        height: Rows of the result.
        width: Columns of the result.
        round_between: Round to 8 bits after the rows too, as current MATLAB does for 8-bit input.

    Returns:
        (height, width) or (height, width, C) uint8.
    """
    rows: NDArray[Any] = _resize_first_axis(image, height)
    rows = _round_to_uint8(rows) if round_between else rows
    columns = _resize_first_axis(np.swapaxes(rows, 0, 1), width)
    return _round_to_uint8(np.swapaxes(columns, 0, 1))


def _resize_first_axis(image: NDArray[Any], length: int) -> NDArray[np.float64]:
    flat = image.reshape(image.shape[0], -1)
    # Only a few taps of each row of the weight matrix are not zero, but one product beats gathering them.
    result = _weights(image.shape[0], length) @ flat.astype(np.float64)
    return result.reshape(length, *image.shape[1:])


def _round_to_uint8(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round half away from zero and clip, as MATLAB's uint8() does; the tolerance absorbs summation order."""
    rounded: NDArray[Any] = np.floor(values + 0.5 + 1e-9)
    return rounded.clip(0, 255).astype(np.uint8)


# Both axes and two levels of two sizes, upright and lying: more would cost 80 MiB for each further size of photograph.
@lru_cache(maxsize=8)
def _weights(length_in: int, length_out: int) -> NDArray[np.float64]:
    """Return the (length_out, length_in) matrix of one resizing pass."""
    scale = length_out / length_in
    stretch = max(1.0, 1.0 / scale)
    centres = (np.arange(length_out) + 0.5) / scale - 0.5
    taps = int(np.ceil(4 * stretch)) + 2
    first = np.floor(centres - 2 * stretch).astype(int)
    positions = first[:, None] + np.arange(taps)
    values = cubic((centres[:, None] - positions) / stretch)
    values /= values.sum(axis=1, keepdims=True)
    mirrored = positions % (2 * length_in)
    mirrored = np.minimum(mirrored, 2 * length_in - 1 - mirrored)
    matrix = np.zeros((length_out, length_in))
    np.add.at(matrix, (np.arange(length_out)[:, None], mirrored), values)
    return matrix


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic convolution kernel with a = -0.5 at ``x``; it is zero from 2 on."""
    x = np.abs(x)
    near = ((CUBIC_A + 2) * x - (CUBIC_A + 3)) * x**2 + 1
    far = ((CUBIC_A * x - 5 * CUBIC_A) * x + 8 * CUBIC_A) * x - 4 * CUBIC_A
    result: NDArray[np.float64] = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    return result


def bicubic_weights(scale: int) -> tuple[NDArray[np.float64], int]:
    """Return the weights of MATLAB's antialiased bicubic reduction along one axis, and where they begin.

    LR pixel i is the sum of the weights times the HR pixels from ``scale * i + begin`` on.
    """
    centre = (scale - 1) / 2
    begin = int(np.floor(centre - 2 * scale)) + 1
    positions = np.arange(begin, int(np.ceil(centre + 2 * scale)))
    weights = cubic((positions - centre) / scale)
    return weights / weights.sum(), begin
