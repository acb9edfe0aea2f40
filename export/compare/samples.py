"""Real images for the check, at sizes and batches that the export itself never saw."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drc_deploy import locate
from drc_deploy.engine_info import EngineInfo
from drc_deploy.images.crops import fit_to_size

CHECK_SHAPES = ((1, 23, 31), (3, 19, 26))
"""Batch, height and width of each checked batch: none is ``TRACE_SHAPE``'s, and odd sizes are among them. A network
that takes no such sides is checked with the next ones that it takes, the second time with larger ones."""
_REDUCTION = 4
"""Photographs are reduced by this before cropping, which gives the detail per pixel of a low-resolution image."""

_RANGE_REDUCTION = 8
_RANGE_CROP_PX = 48


def check_batches(info: EngineInfo) -> list[NDArray[np.uint8]]:
    """Return (N, H, W, 3) uint8 RGB batches of the shapes of ``CHECK_SHAPES``, as far as ``info`` allows."""
    images = list(_reduced_photographs())
    free = all(info.taken_side(side) == side for _, *sides in CHECK_SHAPES for side in sides)
    more = 0 if free else info.taken_side(1)
    return [
        _crops(images, min(batch, info.max_batch), *info.taken_sides(height + n * more, width + 2 * n * more))
        for n, (batch, height, width) in enumerate(CHECK_SHAPES)
    ]


def tile_batch(batch: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return (batch, height, width, 3) uint8 RGB; photographs that are smaller are mirrored at their borders."""
    return _crops(list(_reduced_photographs()), batch, height, width)


def range_batches(info: EngineInfo) -> Iterator[NDArray[np.uint8]]:
    """Return each photograph twice, (1, H, W, 3) uint8 RGB: whole and small, and its middle in full detail."""
    for path in locate.sample_images():
        with Image.open(path) as image:
            pixels = image.convert("RGB")
            small = np.asarray(pixels.reduce(_RANGE_REDUCTION))
            yield fit_to_size(small, *info.taken_sides(*small.shape[:2]))[None]
            yield fit_to_size(np.asarray(pixels), *info.taken_sides(_RANGE_CROP_PX, _RANGE_CROP_PX))[None]


def _reduced_photographs() -> Iterator[NDArray[np.uint8]]:
    for path in locate.sample_images():
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB").reduce(_REDUCTION))


def _crops(images: list[NDArray[np.uint8]], batch: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.stack([fit_to_size(images[index % len(images)], height, width) for index in range(batch)])
