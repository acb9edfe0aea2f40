"""Images in the 256 colours that a GIF holds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = 256
_HALF = 128


def with_palette(pixels: NDArray[Any]) -> tuple[Image.Image, int | None]:
    """Return an image with a palette of at most 256 colours, and the number of its transparent one if it has any.

    Colours are kept where there are that few; else those of a median cut are dithered (Floyd and Steinberg 1976).

    Args:
        pixels: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, alpha
            straight. What is less than half opaque becomes transparent, and all else opaque.
    """
    planes = pixels.reshape(*pixels.shape[:2], -1)
    colours = np.ascontiguousarray(
        np.broadcast_to(planes[:, :, : 3 if planes.shape[2] > 2 else 1], (*planes.shape[:2], 3))
    )
    clear = planes[:, :, -1] < _HALF if planes.shape[2] in (2, 4) else np.zeros(planes.shape[:2], np.bool_)
    transparent = bool(clear.any())
    if transparent:
        colours[clear] = colours[~clear][0] if not clear.all() else 0  # what nobody sees takes no colour
    most = COLOURS - transparent
    exact = Image.fromarray(colours).getcolors(most) is not None
    numbers, table = _exact(colours) if exact else _dithered(colours, most)
    if transparent:
        numbers[clear] = len(table)
        table = np.concatenate([table, np.zeros((1, 3), np.uint8)])
    image = Image.fromarray(numbers)
    image.putpalette(table.tobytes())
    return image, len(table) - 1 if transparent else None


def _exact(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the number of each pixel's colour, and the colours; Pillow takes neighbouring ones for the same."""
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, numbers = np.unique(packed, return_inverse=True)
    table = (found[:, None] >> np.array([16, 8, 0], np.uint32) & 255).astype(np.uint8)
    return numbers.reshape(packed.shape).astype(np.uint8), table


def _dithered(colours: NDArray[np.uint8], most: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image = Image.fromarray(colours)
    chosen = image.quantize(most, method=Image.Quantize.MEDIANCUT)
    table = np.frombuffer(bytes(chosen.getpalette() or ()), np.uint8).reshape(-1, 3)[:most]
    numbers = np.array(image.quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG))
    return numbers, table
