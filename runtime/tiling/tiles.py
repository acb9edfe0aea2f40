"""Where tiles lie and which part of each is used: geometry in input pixels, decided before anything runs.

Along one axis the tiles all have the same size, are as few as the overlap allows, and are spread evenly; the
last one ends where the image ends. Neighbours share at least ``2 * overlap`` pixels. At a border inside the
image the first ``trim`` pixels of a tile are never used, for the network saw no neighbours there; what is
left of the shared part is blended linearly:

    tile i       |------------------------]. trim .]
    tile i + 1               [. trim .[------------------------|
    shared                   [=====================]
    blended                           [-----]

A network that sees its input in windows has all of this on the grid of the windows: sides and starts of tiles are
multiples of ``multiple_of``. An image that is no multiple is continued at the right and at the bottom; the last tile
reads that too, and nothing of what it makes there is used.
"""

from dataclasses import dataclass
from itertools import pairwise

from drc_deploy.engine_info import EngineInfo, taken_side
from drc_deploy.errors import UsageError

WHOLE_IMAGE_PIXELS = 256 * 256
"""A network that takes any size gets images up to this many input pixels in one piece."""

FREE_TILE_PX = 256
"""Largest side of a tile where the network takes any size: on a CPU as fast as the whole image, in less memory. A
network that needs more gets its least side."""

WHOLE_IMAGE_TILE_PX = 1 << 16
"""Larger than any image: as the side of a tile, it has every image computed in one piece."""

ATTENTION_OVERLAP_PX = 8
"""Overlap for networks with global operations: none makes them exact, and more than this hides seams no better
(docs/results.md)."""


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis. All numbers are input pixels of the image."""

    start: int
    """First pixel that the tile reads."""
    size: int
    """Number of image pixels that it reads; less than the tile's side where the tile goes beyond the image."""
    keep_start: int
    """First pixel for which the tile's result is used."""
    keep_stop: int
    """One past the last pixel for which it is used."""
    ramp: int
    """From ``keep_start`` on, so many pixels pass gradually from the tile before to this one."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """All tiles of an image: every row of tiles with every column."""

    tile: tuple[int, int]
    """Height and width of every tile that the network gets, in input pixels."""
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def tile_count(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)


def plan_tiles(
    height: int, width: int, info: EngineInfo, *, tile: int | None = None, overlap: int | None = None
) -> TilePlan:
    """Plan an image of ``height`` x ``width`` for a network.

    Args:
        height: input pixels, at least 1.
        width: input pixels, at least 1.
        info: the network; its own tile size, when it has one, is kept to.
        tile: largest side of a tile for a network that takes any size, rounded down to a side that it takes; None
            chooses.
        overlap: least number of pixels of context on each side of a tile; None chooses the receptive field, or
            ``ATTENTION_OVERLAP_PX`` when no overlap is enough.

    Raises:
        UsageError: the tile differs from the one that the network needs, is smaller than all sides that it takes, or
            is not larger than two overlaps.
    """
    sides, grid = _largest_sides(height, width, info, tile), info.multiple_of
    overlap = _overlap(info, min(sides)) if overlap is None else overlap
    if info.tile is None:
        sides = (_balanced_side(height, sides[0], overlap, info), _balanced_side(width, sides[1], overlap, info))
    trim = _trim(info, overlap)
    return TilePlan(
        tile=sides,
        rows=plan_axis(height, sides[0], overlap, trim, grid),
        columns=plan_axis(width, sides[1], overlap, trim, grid),
    )


def plan_axis(length: int, side: int, overlap: int, trim: int, grid: int = 1) -> tuple[Span, ...]:
    """Place the fewest tiles of ``side`` pixels along ``length`` pixels, evenly.

    Args:
        length: of the image, in pixels.
        side: of every tile, in pixels; a multiple of ``grid``.
        overlap: Neighbours share at least two of it.
        trim: at most ``overlap``.
        grid: Every tile starts at a multiple of it, in pixels.

    Raises:
        UsageError: several tiles are needed, but ``side`` is not larger than what neighbours share.
    """
    if length <= side:
        return (Span(start=0, size=length, keep_start=0, keep_stop=length, ramp=0),)
    last = _tile_count(length, side, overlap, grid) - 1
    end = taken_side(length, grid, 1)
    starts = [index * ((end - side) // grid) // last * grid for index in range(last + 1)]
    # No ramp is longer than the distance between two tiles, so that no pixel blends more than two of them.
    step = min(after - before for before, after in pairwise(starts))
    blends = [(0, 0)]
    for before, after in pairwise(starts):
        ramp = min(before + side - after - 2 * trim, step)
        blend_start = (before + after + side - ramp) // 2
        blends.append((blend_start, blend_start + ramp))
    blends.append((length, length))
    return tuple(
        Span(start, min(side, length - start), blend[0], keep_stop=blend_after[1], ramp=blend[1] - blend[0])
        for start, (blend, blend_after) in zip(starts, pairwise(blends), strict=True)
    )


def _shared(overlap: int, grid: int) -> int:
    """Return how many pixels neighbours share at least: two overlaps, on the grid."""
    return -(-2 * overlap // grid) * grid


def _tile_count(length: int, side: int, overlap: int, grid: int) -> int:
    """Fewest tiles of ``side`` pixels that cover ``length``."""
    if length <= side:
        return 1
    shared = _shared(overlap, grid)
    if side <= shared:
        raise UsageError(
            f"a tile of {side} pixels with an overlap of {overlap} on each side has no middle left.",
            f"Give --tile at least {shared + grid}, or an --overlap of at most {(side - grid) // 2}.",
        )
    return -(-(length - shared) // (side - shared))


def _largest_sides(height: int, width: int, info: EngineInfo, tile: int | None) -> tuple[int, int]:
    """Return the largest height and width of a tile that the network takes, within what was asked for."""
    if info.tile is not None:
        if tile is not None and (tile, tile) != info.tile:
            raise UsageError(
                f"this engine takes tiles of {info.tile[0]}x{info.tile[1]} only, not of {tile}x{tile}.",
                "Leave --tile out, or use an engine of free size (the .onnx).",
            )
        return info.tile
    whole, least = (info.taken_side(height), info.taken_side(width)), info.taken_side(1)
    if tile is None and whole[0] * whole[1] <= WHOLE_IMAGE_PIXELS:
        return whole
    side = max(FREE_TILE_PX, least) if tile is None else tile
    if side < least:
        raise UsageError(f"this network takes no tile smaller than {least} pixels.", f"Give --tile {least} or more.")
    side -= side % info.multiple_of
    return side, side


def _balanced_side(length: int, largest: int, overlap: int, info: EngineInfo) -> int:
    """Return the smallest side with which no more tiles are needed: less is computed twice."""
    count = _tile_count(length, largest, overlap, info.multiple_of)
    return info.taken_side(-(-(length + (count - 1) * _shared(overlap, info.multiple_of)) // count))


def _overlap(info: EngineInfo, side: int) -> int:
    """Choose the context on each side of a tile of ``side`` pixels."""
    enough = info.receptive_field
    if info.global_operations:
        enough = min(enough, ATTENTION_OVERLAP_PX)
    return min(enough, side // 4, (side - info.multiple_of) // 2)


def _trim(info: EngineInfo, overlap: int) -> int:
    """Choose how much of the overlap is never used.

    A local network is exact beyond its receptive field, so all of that is cut off. Where nothing is exact,
    half of the overlap is cut off and half is left to blend.
    """
    if not info.global_operations and overlap >= info.receptive_field:
        return info.receptive_field
    return min(info.receptive_field, overlap // 2)
