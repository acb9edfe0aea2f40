"""How much there is to see in a patch, by a look at few of its pixels."""

import numpy as np
from numpy.typing import NDArray

LATTICE = 8
"""Pixels between two that are looked at."""
GREEN = 1


def detail(
    pixels: NDArray[np.uint8], first: NDArray[np.int64], strides: NDArray[np.int64], side: int
) -> NDArray[np.int64]:
    """Return how far green is from its neighbours below and to the right, added up over a lattice in each patch.

    Args:
        pixels: (pixels, 3) uint8 of all photographs.
        first: (n,) numbers of the patches' upper left pixels.
        strides: (n,) pixels from one row to the next.
        side: Height and width of each patch in pixels.

    Returns:
        (n,) whole numbers, so that every machine finds the same patch best.
    """
    lattice = np.arange(LATTICE // 2, side - 1, LATTICE)
    rows = first[:, None] + lattice * strides[:, None]
    index = rows[:, :, None] + lattice
    green = pixels[index, GREEN].astype(np.int64)
    below, right = pixels[index + strides[:, None, None], GREEN], pixels[index + 1, GREEN]
    total: NDArray[np.int64] = (np.abs(green - below) + np.abs(green - right)).sum(axis=(1, 2))
    return total
