"""Real images for the check, at sizes and batches that the export itself never saw."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy import locate

CHECK_SHAPES = ((1, 23, 31), (3, 19, 26))
"""Batch, height and width of each checked batch: none is ``TRACE_SHAPE``'s, and odd sizes are among them."""
_REDUCTION = 4
"""Photographs are reduced by this before cropping, which gives the detail per pixel of a low-resolution image."""

_RANGE_REDUCTION = 8
_RANGE_CROP_PX = 48


def check_batches(max_batch: int) -> list[NDArray[np.uint8]]:
    """Give (N, H, W, 3) uint8 RGB batches of the shapes of ``CHECK_SHAPES``, N at most ``max_batch``."""
    images = list(_reduced_photographs())
    return [_crops(images, min(batch, max_batch), height, width) for batch, height, width in CHECK_SHAPES]


def tile_batch(batch: int, height: int, width: int) -> NDArray[np.uint8]:
    """Give (batch, height, width, 3) uint8 RGB; what is larger than a photograph is mirrored at its borders."""
    return _crops(list(_reduced_photographs()), batch, height, width)


def range_batches() -> Iterator[NDArray[np.uint8]]:
    """Return each photograph twice, (1, H, W, 3) uint8 RGB: whole and small, and its middle in full detail."""
    for path in locate.sample_images():
        with Image.open(path) as image:
            pixels = image.convert("RGB")
            yield np.asarray(pixels.reduce(_RANGE_REDUCTION))[None]
            yield _centre_crop(np.asarray(pixels), _RANGE_CROP_PX, _RANGE_CROP_PX)[None]


def _reduced_photographs() -> Iterator[NDArray[np.uint8]]:
    for path in locate.sample_images():
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB").reduce(_REDUCTION))


def _crops(images: list[NDArray[np.uint8]], batch: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.stack([_centre_crop(images[index % len(images)], height, width) for index in range(batch)])


def _centre_crop(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    missing = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
