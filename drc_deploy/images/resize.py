"""Bicubic resizing as MATLAB's ``imresize`` does it, which made the LR images that the literature scores on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUBIC_A = -0.5
"""MATLAB's cubic; torch and OpenCV use -0.75."""
_BLOCK_ROWS, _BLOCK_COLUMNS = 16, 32
"""Results that are made at a time. Larger blocks multiply by more zeros, and smaller ones are more calls."""
_MOST_STRETCH = 4
"""Where more samples become one, blocks have fewer results, so that no block is of many samples."""
_TOLERANCE = 1e-9
"""Of rounding: it absorbs the order of summation where a result lies halfway."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring results along one axis, and the samples that they are sums of."""

    start: int
    """First of the results."""
    first: int
    """First of the samples."""
    weights: NDArray[np.float64]
    """(results, samples); borders are mirrored in it."""

    @property
    def stop(self) -> int:
        """Where the next block starts."""
        return self.start + len(self.weights)

    @property
    def sample_count(self) -> int:
        """How many samples the results are sums of."""
        return int(self.weights.shape[1])

    @property
    def end(self) -> int:
        """The samples end before this one."""
        return self.first + self.sample_count


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
    planes = image.reshape(*image.shape[:2], -1)
    result = np.empty((height, width, planes.shape[2]), np.uint8)
    between = _round_to_uint8 if round_between else None
    rows, columns = _blocks_of_both(image.shape[0], image.shape[1], height, width)
    for row in rows:
        for column in columns:
            samples = planes[row.first : row.end, column.first : column.end].astype(np.float64)
            made = resized_block(samples, row, column, between)
            result[row.start : row.stop, column.start : column.stop] = _round_to_uint8(made)
    return result.reshape(height, width, *image.shape[2:])


def resized_block(
    samples: NDArray[np.float64],
    row: Block,
    column: Block,
    between: Callable[[NDArray[np.float64]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """Return the results of one block of rows and one of columns.

    Args:
        samples: (samples of the rows, samples of the columns, channels).
        row: of the rows.
        column: of the columns.
        between: what is done to the rows before the columns.

    Returns:
        (results of the rows, results of the columns, channels).
    """
    _, width, channels = samples.shape
    rows: NDArray[Any] = (row.weights @ samples.reshape(len(samples), -1)).reshape(-1, width, channels)
    rows = between(rows) if between else rows
    columns = column.weights @ rows.swapaxes(0, 1).reshape(width, -1)
    result: NDArray[np.float64] = columns.reshape(-1, len(rows), channels).swapaxes(0, 1)
    return result


def round_half_up(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round half up and clip to an unsigned type, as MATLAB's uint8() and uint16() do."""
    rounded: NDArray[Any] = np.floor(values + (0.5 + _TOLERANCE))
    return rounded.clip(0, np.iinfo(dtype).max).astype(dtype)


def _round_to_uint8(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return round_half_up(values, np.dtype(np.uint8))


def row_blocks(length_in: int, length_out: int) -> tuple[Block, ...]:
    """Return the blocks of all rows, in order."""
    return _blocks(length_in, length_out, _BLOCK_ROWS)


def column_blocks(length_in: int, length_out: int) -> tuple[Block, ...]:
    """Return the blocks of all columns, in order."""
    return _blocks(length_in, length_out, _BLOCK_COLUMNS)


# Two levels of two sizes, upright and lying.
@lru_cache(maxsize=4)
def _blocks_of_both(
    height_in: int, width_in: int, height_out: int, width_out: int
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    return row_blocks(height_in, height_out), column_blocks(width_in, width_out)


def _blocks(length_in: int, length_out: int, size: int) -> tuple[Block, ...]:
    """Return the blocks of one resizing pass, of up to ``size`` results each."""
    scale = length_out / length_in
    stretch = max(1.0, 1.0 / scale)
    size = max(int(size * min(1.0, _MOST_STRETCH / stretch)), 1)
    centres = (np.arange(length_out) + 0.5) / scale - 0.5
    taps = int(np.ceil(4 * stretch)) + 2
    first = np.floor(centres - 2 * stretch).astype(int)
    positions = first[:, None] + np.arange(taps)
    values = cubic((centres[:, None] - positions) / stretch)
    values /= values.sum(axis=1, keepdims=True)
    mirrored = positions % (2 * length_in)
    mirrored = np.minimum(mirrored, 2 * length_in - 1 - mirrored)
    return tuple(
        _block(start, mirrored[start : start + size], values[start : start + size])
        for start in range(0, length_out, size)
    )


def _block(start: int, positions: NDArray[np.int_], values: NDArray[np.float64]) -> Block:
    """Return the block from ``start`` on; ``positions`` and ``values`` are (results, taps)."""
    used = positions[values != 0]
    first = int(used.min())
    weights = np.zeros((len(values), int(used.max()) + 1 - first))
    rows, taps = np.nonzero(values)
    np.add.at(weights, (rows, positions[rows, taps] - first), values[rows, taps])
    return Block(start, first, weights)


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
