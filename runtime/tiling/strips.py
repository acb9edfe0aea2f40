"""Runs a plan of tiles over an RGB image and yields the result from top to bottom, as finished rows.

What is held at any time is one row of tiles, whatever the height of the image.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Backend, Pixels, check_result
from drc_deploy.runtime.tiling.tiles import Span, TilePlan

_UINT16_PER_UINT8 = 257
"""65535 / 255: the networks know 16-bit samples as fractions of [0, 255]."""

Mend = Callable[[Pixels, Pixels], Pixels]
"""A batch and the results that the network gave for it -> the results to use."""


def upscaled_strips(
    backend: Backend,
    image: Pixels,
    plan: TilePlan,
    on_tiles: Callable[[int], None] | None = None,
    mend: Mend | None = None,
) -> Iterator[Pixels]:
    """Upscale an image strip by strip.

    Args:
        backend: the network.
        image: (H, W, 3) uint8, or uint16 when the network takes float32.
        plan: made for this image's size and this network.
        on_tiles: called with the number of tiles just done.
        mend: looks at every batch of results.

    Yields:
        (rows, scale*W, 3) of the image's type, in order; the rows add up to scale*H.

    Raises:
        ArtefactError: the backend failed, or gave NaN, infinity, or a result of another size.
    """
    with closing(_finished(backend, [image], plan, on_tiles, mend)) as tiles:
        yield from _joined(tiles, plan, image, backend.info.scale)


def upscaled_images(
    backend: Backend, images: Iterable[Pixels], plan: TilePlan, mend: Mend | None = None
) -> Iterator[Pixels]:
    """Upscale many images as one stream of tiles: those of the next are computed while one is joined.

    Args:
        backend: the network.
        images: each as for ``upscaled_strips``, all of one size and type; some are taken ahead.
        plan: made for their size and this network.
        mend: looks at every batch of results.

    Yields:
        (scale*H, scale*W, 3) of their type, in order.

    Raises:
        ArtefactError: as ``upscaled_strips``.
    """
    taken: deque[Pixels] = deque()

    def given() -> Iterator[Pixels]:
        for image in images:
            taken.append(image)
            yield image

    with closing(_finished(backend, given(), plan, None, mend)) as tiles:
        for first in tiles:  # of each image
            image = taken.popleft()
            strips = _joined(chain([first], tiles), plan, image, backend.info.scale)
            yield next(strips) if len(plan.rows) == 1 else _whole(strips, image, backend.info.scale)


def _whole(strips: Iterator[Pixels], image: Pixels, scale: int) -> Pixels:
    """Return the result of ``image``, whose strips are made one after the other: all of them never exist twice."""
    whole: Pixels = np.empty((image.shape[0] * scale, image.shape[1] * scale, 3), image.dtype)
    row = 0
    for strip in strips:
        whole[row : row + len(strip)] = strip
        row += len(strip)
    return whole


def tile_batches(backend: Backend, image: Pixels, plan: TilePlan) -> Iterator[Pixels]:
    """Cut an image into the batches that the network gets, each of some neighbours of one row of tiles.

    Args:
        backend: the network; its ``preferred_batch`` is the size of a batch.
        image: (H, W, 3) uint8, or uint16 when the network takes float32.
        plan: made for this image's size and this network.

    Yields:
        (N, tile height, tile width, 3) of the type that the network takes.
    """
    size = backend.preferred_batch
    for row in plan.rows:
        for first in range(0, len(plan.columns), size):
            columns = plan.columns[first : first + size]
            yield np.stack([input_tile(backend, image, plan.tile, row, column) for column in columns])


def _finished(
    backend: Backend,
    images: Iterable[Pixels],
    plan: TilePlan,
    on_tiles: Callable[[int], None] | None,
    mend: Mend | None,
) -> Generator[Pixels, None, None]:
    """Yield every tile's result in its image's type, in the order of the plan: checked, for metadata can be wrong."""
    scale = backend.info.scale
    waiting: deque[tuple[Pixels, np.dtype[Any]]] = deque()

    def given() -> Iterator[Pixels]:
        for image in images:
            for batch in tile_batches(backend, image, plan):
                waiting.append((batch, image.dtype))
                yield batch

    results = backend.stream(given())
    try:
        for result in results:
            batch, dtype = waiting.popleft()
            check_result(batch, result, scale)
            if on_tiles is not None:
                on_tiles(len(batch))
            yield from _finish(mend(batch, result) if mend else result, dtype)
    finally:
        if isinstance(results, Generator):
            results.close()  # what was taken ahead is not computed for nobody


def _band(tiles: Iterator[Pixels], row: Span, plan: TilePlan, image: Pixels, scale: int) -> Pixels:
    """Join a row of tiles: (scale * kept rows, scale*W, 3)."""
    band: Pixels = np.empty(((row.keep_stop - row.keep_start) * scale, image.shape[1] * scale, 3), image.dtype)
    for column, result in zip(plan.columns, tiles, strict=False):
        _paste(band, result, row, column, scale)
    return band


def _joined(tiles: Iterator[Pixels], plan: TilePlan, image: Pixels, scale: int) -> Iterator[Pixels]:
    """Blend each row of tiles into the one above, and yield the rows of pixels that no later one changes."""
    tail: Pixels | None = None
    for index, span in enumerate(plan.rows):
        band = _band(tiles, span, plan, image, scale)
        if tail is not None:
            _blend(band[: len(tail)], tail, axis=0)
        after = plan.rows[index + 1] if index + 1 < len(plan.rows) else None
        finished = (after.keep_start if after else span.keep_stop) - span.keep_start
        tail = band[finished * scale :].copy()  # a view would keep the whole band alive
        given = [band[: finished * scale]]
        del band  # what is given is for the receiver to hold, not for this frame
        yield given.pop()


def input_tile(backend: Backend, image: Pixels, tile: tuple[int, int], row: Span, column: Span) -> Pixels:
    """Cut one tile out of the image, which its mirror image continues at the right and at the bottom."""
    if (row.size, column.size) == tile:
        cut = image[row.start : row.start + row.size, column.start : column.start + column.size]
    else:
        # Of the image, not of the tile: else what lies beyond would depend on where the tile begins.
        rows, columns = _mirrored(row, tile[0], image.shape[0]), _mirrored(column, tile[1], image.shape[1])
        cut = image[np.ix_(rows, columns)]
    if backend.info.io_dtype == "uint8":
        return cut
    tile_pixels: Pixels = cut.astype(np.float32)
    if image.dtype == np.uint16:
        tile_pixels /= _UINT16_PER_UINT8
    return tile_pixels


def _mirrored(span: Span, side: int, length: int) -> Pixels:
    """Return which of an image's ``length`` pixels each pixel of a tile is; beyond the last, they go back and forth."""
    period = max(2 * (length - 1), 1)
    places = np.arange(span.start, span.start + side) % period
    return np.minimum(places, period - places)


def _finish(result: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Bring the network's result to the image's type: rounded half up and clipped."""
    if result.dtype == np.uint8:
        return result
    if not np.isfinite(result).all():
        raise ArtefactError(
            "the network gave NaN or infinity for this image.",
            "Use an fp32 engine of the same checkpoint; if that fails too, the checkpoint is damaged.",
        )
    scaled = result * np.float32(_UINT16_PER_UINT8 if dtype == np.uint16 else 1)
    scaled += np.float32(0.5)
    np.floor(scaled, out=scaled)
    np.clip(scaled, 0, np.iinfo(dtype).max, out=scaled)
    rounded: Pixels = scaled.astype(dtype)
    return rounded


def _paste(band: Pixels, result: Pixels, row: Span, column: Span, scale: int) -> None:
    """Put what the plan uses of a tile's result into the band, blending with the tile to its left that lies there."""
    top, bottom = ((edge - row.start) * scale for edge in (row.keep_start, row.keep_stop))
    left, right = column.keep_start * scale, column.keep_stop * scale
    offset, ramp = column.start * scale, column.ramp * scale
    earlier = band[:, left : left + ramp].copy()
    band[:, left:right] = result[top:bottom, left - offset : right - offset]
    if ramp:
        _blend(band[:, left : left + ramp], earlier, axis=1)


def _blend(fresh: Pixels, earlier: Pixels, axis: int) -> None:
    """Pass from ``earlier`` to ``fresh`` along ``axis``, in place; where both agree nothing changes."""
    length = fresh.shape[axis]
    shape = [1, 1, 1]
    shape[axis] = length
    # In place: a row of a large image is long.
    mixed = fresh.astype(np.float32)
    mixed -= earlier
    mixed *= rising_weights(length).reshape(shape)
    mixed += earlier
    mixed += np.float32(0.5)
    fresh[:] = np.floor(mixed, out=mixed)


def rising_weights(length: int) -> Pixels:
    """Weight of the later of two tiles in each of ``length`` pixels; the earlier one has the rest to 1."""
    weights: Pixels = (np.arange(length, dtype=np.float32) + np.float32(0.5)) / np.float32(max(length, 1))
    return weights
