"""Images in the 256 colours that a GIF holds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = 256
_HALF = 128


def with_palette(pixels: NDArray[Any]) -> tuple[Image.Image, int | None]:
    """Return an image with a palette of at most 256 colours, and the number of its transparent one if it has any.

    Colours are kept where there are that few. Else those of an octree (Gervautz and Purgathofer 1988) are dithered
    (Floyd and Steinberg 1976): on photographs their error is less than that of a median cut, in a seventh of the time.

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
    found = Image.fromarray(colours).getcolors(most)
    numbers, table = _dithered(colours, most) if found is None else _exact(colours, [colour for _, colour in found])
    if transparent:
        numbers[clear] = len(table)
        table = np.concatenate([table, np.zeros((1, 3), np.uint8)])
    image = Image.fromarray(numbers)
    image.putpalette(table.tobytes())
    return image, len(table) - 1 if transparent else None


def _exact(colours: NDArray[np.uint8], found: list[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the number of each pixel's colour, and all colours; Pillow takes neighbouring ones for the same."""
    table = np.array(sorted(found), np.uint8)
    numbers = np.empty(colours.shape[:2], np.uint8)
    for row, line in enumerate(colours):  # the numbers of a whole image would be many times as large
        numbers[row] = np.searchsorted(_packed(table), _packed(line))
    return numbers, table


def _packed(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(colours @ np.array([1 << 16, 1 << 8, 1]), np.int64)


def _dithered(colours: NDArray[np.uint8], most: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image = Image.fromarray(colours)
    chosen = image.quantize(most, method=Image.Quantize.FASTOCTREE)
    table = np.frombuffer(bytes(chosen.getpalette() or ()), np.uint8).reshape(-1, 3)[:most]
    numbers = np.array(image.quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG))
    return numbers, table
