"""The middle of an image, at a size that is asked for."""

import numpy as np
from numpy.typing import NDArray


def middle(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the middle of an image (H, W, 3), at most ``side`` pixels high and wide."""
    return fit_to_size(image, min(image.shape[0], side), min(image.shape[1], side))


def fit_to_size(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the middle of an image, or the image continued by mirroring, as exactly ``height`` x ``width`` pixels.

    A real image rather than zeros or noise: the power that a GPU draws, and so its clock, depends on the values.
    """
    missing = (max(height - image.shape[0], 0), max(width - image.shape[1], 0))
    image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])
