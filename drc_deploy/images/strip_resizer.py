"""Resizes images that come in strips of rows: of any depth, with or without alpha, and larger than memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drc_deploy.images.light import Averages
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.resize import Block, column_blocks, resized_block, row_blocks


class StripResizer:
    """Makes the rows of the result as soon as the rows that they are made of are there.

    The kernel is that of ``resize_bicubic``, without rounding between rows and columns. The result does not depend on
    the strips.
    """

    def __init__(self, source: Layout, height: int, width: int, *, linear_light: bool = False) -> None:
        """Prepare for images of one layout.

        Args:
            source: of the images.
            height: of the results, in pixels.
            width: of the results, in pixels.
            linear_light: average light instead of samples, by the curve of sRGB.
        """
        self._source, self._width = source, width
        self._rows, self._columns = row_blocks(source.height, height), column_blocks(source.width, width)
        dtype = np.dtype(np.uint8 if source.bits == 8 else np.uint16)
        self._averages = Averages(dtype, source.channels, linear_light=linear_light)

    @property
    def held_bytes(self) -> int:
        """Memory that it takes while it has a strip: rows that wait, rows that are made, and a block of numbers."""
        rows, columns = (max(block.sample_count for block in blocks) for blocks in (self._rows, self._columns))
        made = max(len(block.weights) for block in self._rows)
        samples = 2 * rows * self._source.width + 2 * made * self._width
        weights = sum(block.weights.nbytes for block in (*self._rows, *self._columns))
        numbers = rows * columns * self._averages.most_numbers * np.dtype(np.float64).itemsize
        return self._source.channels * (samples * self._source.bits // 8 + numbers) + weights

    def strips(self, strips: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Resize an image.

        Args:
            strips: (rows, W) or (rows, W, channels) of the source's type, from top to bottom; all of its rows.

        Yields:
            (rows, width) or (rows, width, channels) of the same type, from top to bottom.
        """
        waiting = iter(self._rows)
        block = next(waiting, None)
        kept, top = None, 0
        for strip in strips:
            rows = _Rows(kept, strip, top)
            while block is not None and block.end <= rows.end:
                yield self._made(rows.between(block.first, block.end), block)
                block = next(waiting, None)
            top = rows.end if block is None else min(block.first, rows.end)
            kept = rows.between(top, rows.end)
            del rows, strip  # before the next one is waited for

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """Resize a whole image of the source's layout, such as a frame of a video."""
        return np.concatenate(list(self.strips([image])))

    def _made(self, rows: NDArray[Any], row: Block) -> NDArray[Any]:
        """Return the rows of one block, made of all ``rows`` that it needs."""
        planes = rows.reshape(*rows.shape[:2], -1)
        made: NDArray[Any] = np.empty((len(row.weights), self._width, planes.shape[2]), rows.dtype)
        for column in self._columns:
            # No name for the numbers: it would hold those of one block while those of the next are made.
            means = resized_block(self._averages.numbers(planes[:, column.first : column.end]), row, column)
            made[:, column.start : column.stop] = self._averages.pixels(means)
        return made.reshape(*made.shape[:2], *rows.shape[2:])


class _Rows:
    """Rows that were kept, followed by those of a strip."""

    def __init__(self, kept: NDArray[Any] | None, strip: NDArray[Any], top: int) -> None:
        self._parts = [strip] if kept is None else [kept, strip]
        self._top = top
        self.end = top + sum(map(len, self._parts))

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of the image's rows from ``start`` to before ``stop``; none of a strip is kept alive by it."""
        cuts, top = [], self._top
        for part in self._parts:
            cuts.append(part[max(start - top, 0) : max(stop - top, 0)])
            top += len(part)
        return np.concatenate(cuts)


def resize(image: NDArray[Any], height: int, width: int, *, linear_light: bool = False) -> NDArray[Any]:
    """Resize an image as ``resize_bicubic`` does, but of any depth, with alpha, and rounded only once.

    Args:
        image: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16. Colours are
            weighed with their alpha.
        height: of the result, in pixels.
        width: of the result, in pixels.
        linear_light: average light instead of samples, by the curve of sRGB.

    Returns:
        The same type and channels, ``height`` x ``width`` pixels.
    """
    return StripResizer(Layout.of(image), height, width, linear_light=linear_light)(image)
