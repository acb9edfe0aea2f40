"""How large tiles may be and how many at a time, so that an upscaler keeps within its memory: known before it runs.

The peak is what the process holds when its network is loaded, and what one image adds: the activations of the tiles
that are computed at a time, tiles and results that wait, bands of finished rows, what blending them takes, and the
image. Only the activations are not plain arithmetic: export measures them, and they grow with the area of the tile.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import UsageError
from drc_deploy.runtime.memory.host import MemoryBudget, mib
from drc_deploy.runtime.tiling.tiles import TilePlan, plan_tiles

SMALLEST_TILE_PX, TILE_STEP_PX = 48, 16
BYTES_PER_WEIGHT, SESSION_BYTES = 6, 1 << 20
"""Of a session: the weights, in the order in which its kernels want them, and the graph."""
LOADING_BYTES_PER_WEIGHT = 16
"""While a session is loaded: the file, the weights as they are in it, and as kernels want them."""
BANDS, ALPHA_BANDS = 2, 3.5
"""Rows of tiles that are held as finished rows: one is written, one is made. With alpha, which is made as RGB too, the
first has four channels and the second six."""
STREAM_RESULTS = 2
"""Whole results of a stream: one that is joined, and one that is used."""
BLEND_BYTES = 4
"""Per sample that is blended, of float32."""
AROUND_BYTES = 7 << 20
"""Of everything small: threads, the progress bar, the writer, what images before have left in the heap."""
GAPS = 0.2
"""Of the activations of a tile, for each after the first and in what another shape left: gaps in the arena were up to
so large."""


@dataclass(frozen=True, slots=True)
class Images:
    """What is upscaled, as far as memory depends on it: one image, or a stream of them."""

    height: int
    width: int
    """In input pixels."""
    dtype: DTypeLike = np.uint8
    """uint8 or uint16."""
    alpha: bool = False
    """Whether the network enlarges an alpha too."""
    stream: bool = False
    """Whether images of this size follow each other, whose tiles are computed together."""

    @property
    def itemsize(self) -> int:
        """Bytes of a sample."""
        return np.dtype(self.dtype).itemsize

    def at_a_time(self, plan: TilePlan, workers: int) -> int:
        """Return how many tiles are computed at a time: fewer than there are workers get all cores each."""
        return workers if self.stream or plan.tile_count >= workers else 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tiles that fit."""

    plan: TilePlan
    workers: int
    """The most tiles that may be computed at a time."""
    at_a_time: int
    """Those that are: one where there are fewer tiles than workers."""
    peak: int | None
    """Bytes that the process is expected to take at its peak; None where that is not known."""
    computing: int = 0
    """Those among them that the network takes while it computes, and that it may keep for the next image."""


def session_bytes(info: EngineInfo) -> int:
    """Predict what one more ONNX Runtime session of a network holds."""
    return info.params * BYTES_PER_WEIGHT + SESSION_BYTES


def peak_bytes(info: EngineInfo, plan: TilePlan, workers: int, images: Images, loaded: int) -> int:
    """Predict the peak of the process while it upscales on a CPU.

    Args:
        info: the network, with ``cpu_bytes_per_pixel``.
        plan: its tiles for the images.
        workers: the most tiles that may be computed at a time.
        images: what is upscaled.
        loaded: bytes that the process holds before.
    """
    at_a_time = images.at_a_time(plan, workers)
    need = _computing_bytes(info, plan, at_a_time, images)
    need += _image_bytes(info, plan, images) + AROUND_BYTES
    if images.stream:
        need += _stream_bytes(info, plan, at_a_time, images)
    if at_a_time > 1:  # in a second session, which is loaded before anything is computed
        need = max(need + session_bytes(info), info.params * LOADING_BYTES_PER_WEIGHT)
    return loaded + need


def _computing_bytes(info: EngineInfo, plan: TilePlan, at_a_time: int, images: Images) -> int:
    """Of the network: activations, and the tiles and results that wait for their turn."""
    assert info.cpu_bytes_per_pixel is not None
    area = plan.tile[0] * plan.tile[1]
    # Of a stream, one result is used while others are made; colours and alpha are a stream each.
    waiting = 2 * at_a_time if images.stream else min(2 * at_a_time, plan.tile_count)
    waiting *= 2 if images.alpha else 1
    tile_and_result = 3 * (info.scale**2 + 1) * np.dtype(info.io_dtype).itemsize
    return area * (at_a_time * info.cpu_bytes_per_pixel + waiting * tile_and_result)


def _image_bytes(info: EngineInfo, plan: TilePlan, images: Images) -> int:
    """Of one image: its pixels, a result that is rounded, and rows of tiles on their way to the file."""
    item, scale = images.itemsize, info.scale
    pixels = images.height * images.width * 3 * item
    if images.alpha:  # as read, with the hidden colours filled, and where it is opaque or clear
        pixels = images.height * images.width * (7 * item + 2)
    rounded = plan.tile[0] * plan.tile[1] * scale**2 * 3 * (4 + item) if info.io_dtype == "float32" else 0
    row = images.width * scale * 3
    kept = max(span.keep_stop - span.keep_start for span in plan.rows) * scale * row * item
    bands = int(kept * (ALPHA_BANDS if images.alpha else min(BANDS, len(plan.rows))))
    blended = max(span.ramp for span in plan.rows) * scale * row * (item + BLEND_BYTES)
    return pixels + rounded + bands + blended


def _stream_bytes(info: EngineInfo, plan: TilePlan, at_a_time: int, images: Images) -> int:
    """Of a stream, also: images that are taken ahead, and whole results."""
    pixels = images.height * images.width * 3 * images.itemsize
    ahead = -(-2 * at_a_time // plan.tile_count)
    return pixels * (ahead + STREAM_RESULTS * info.scale**2)


def fit_plan(
    images: Images,
    info: EngineInfo,
    budget: MemoryBudget,
    workers: int,
    *,
    tile: int | None = None,
    overlap: int | None = None,
) -> Fitted:
    """Choose the largest tiles that the budget allows; fewer cores only where smaller tiles do not help.

    Args:
        images: what is upscaled.
        info: a network of free size, with ``cpu_bytes_per_pixel``.
        budget: what may be taken.
        workers: the most tiles that may be computed at a time.
        tile: largest side of a tile; None chooses.
        overlap: as for ``plan_tiles``.

    Raises:
        UsageError: nothing fits; the hint says what would.
    """
    peaks, bytes_per_pixel = [], info.cpu_bytes_per_pixel
    assert bytes_per_pixel is not None
    height, width = images.height, images.width
    smallest = info.taken_side(SMALLEST_TILE_PX)
    sides = [tile] if tile else [None, *range(256, smallest - 1, -TILE_STEP_PX)]
    for count in sorted({workers, max(workers // 2, 1), 1}, reverse=True):
        for side in sides:
            plan = plan_tiles(height, width, info, tile=side, overlap=overlap)
            peak = peak_bytes(info, plan, count, images, budget.loaded)
            at_a_time = images.at_a_time(plan, count)
            computing = _computing_bytes(info, plan, at_a_time, images)
            # How the tiles meet in time decides by how much more the peak can be.
            peaks.append(peak + int(GAPS * (count - 1) * plan.tile[0] * plan.tile[1] * bytes_per_pixel))
            if peaks[-1] <= budget.limit:
                return Fitted(plan, count, at_a_time, peak, computing)
    least = min(peaks)
    raise UsageError(
        f"an image of {width}x{height} needs {mib(least)} MiB, more than the {mib(budget.limit)} MiB allowed.",
        f"Give --max-memory {mib(least) + 1}MiB or more, or cut the image into columns.",
    )
