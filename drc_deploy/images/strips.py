"""Strips of rows on their way to a file: transparency flattened, grey as RGB, 16 bits as 8."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drc_deploy.images.png_stream import Layout

_PIECE_BYTES = 1 << 18
"""So much is converted at a time: strips may be large."""
_STEP = 257
"""Levels of 16 bits to one of 8."""

Colour = tuple[int, int, int]
"""Red, green and blue in [0, 255]."""


def stored_strips(
    strips: Iterable[NDArray[Any]], layout: Layout, stored: Layout, background: Colour | None
) -> Iterator[NDArray[Any]]:
    """Yield the rows of an image as its file holds them.

    Args:
        strips: (rows, W) or (rows, W, channels), from top to bottom.
        layout: what they add up to.
        stored: the same size, in the channels and bits of the file.
        background: what shows through where ``stored`` has no alpha and ``layout`` has.

    Yields:
        Strips as they are where the two layouts are one; else (rows, W, channels) in small pieces.
    """
    row = 0
    for strip in strips:
        if stored == layout:
            yield strip
        else:
            rows = strip if strip.ndim == 3 else strip[:, :, None]
            at_a_time = max(_PIECE_BYTES // max(rows[:1].nbytes, 1), 1)
            for first in range(0, len(rows), at_a_time):
                piece = _in_channels(rows[first : first + at_a_time], stored.channels, background)
                yield dithered(piece, row + first) if stored.bits < layout.bits else piece
            del rows
        row += len(strip)
        del strip  # before the next one is waited for


def _in_channels(rows: NDArray[Any], channels: int, background: Colour | None) -> NDArray[Any]:
    """Return (rows, W, channels): without alpha where a background is given, grey as RGB where three are wanted."""
    has_alpha = rows.shape[2] in (2, 4)
    if has_alpha and background is not None:
        rows, has_alpha = flattened(rows, background, grey=channels == 1), False
    if rows.shape[2] == channels:
        return rows
    return rows[:, :, [0, 0, 0, 1] if has_alpha else [0, 0, 0]]


def flattened(rows: NDArray[Any], background: Colour, *, grey: bool) -> NDArray[Any]:
    """Lay colours over a background, rounded to the nearest level; straight alpha, the file's own colours."""
    full = np.iinfo(rows.dtype).max
    behind = np.array(background[:1] if grey else background, np.uint32) * (full // 255)
    alpha = rows[:, :, -1:].astype(np.uint32)
    sums = rows[:, :, :-1] * alpha + behind * (full - alpha) + full // 2  # at most 65535^2 + 32767, below 2^32
    return np.asarray(sums // full, rows.dtype)


def dithered(rows: NDArray[np.uint16], first: int) -> NDArray[np.uint8]:
    """Return 16 bits as 8 with Bayer's ordered dither, whose pattern is fixed to the image.

    Args:
        rows: (rows, W, channels).
        first: number of the first row in the image.

    Returns:
        (rows, W, channels); a value between two levels becomes one or the other in the share that is its due.
    """
    down, across = np.arange(first, first + len(rows)) % len(_BAYER), np.arange(rows.shape[1]) % len(_BAYER)
    levels, rest = np.divmod(rows, _STEP)
    return np.asarray(levels + (rest > _BAYER[down][:, across, None]), np.uint8)


def _bayer(doublings: int) -> NDArray[np.uint16]:
    """Return the matrix of 4^doublings thresholds, each once (Bayer 1973)."""
    matrix = np.zeros((1, 1), np.uint16)
    for _ in range(doublings):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]]).astype(np.uint16)
    return matrix


_BAYER = _bayer(4)
