"""How large tiles may be and how many at a time, so that an upscaler keeps within its memory: known before it runs.

The peak is what the process holds when its network is loaded, and what one image adds: the activations of the tiles
that are computed at a time, their results, two bands of finished rows, what blending them takes, and the image. Only
the activations are not plain arithmetic: export measures them, and they grow with the area of the tile.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import UsageError
from drc_deploy.proc_files import colon_lines, read_text
from drc_deploy.runtime.tiles import TilePlan, plan_tiles

SMALLEST_TILE_PX, TILE_STEP_PX = 48, 16
LARGEST_SHARE = 0.5
"""Of the memory that is free: what an upscaler may take when nothing else is said."""
BYTES_PER_WEIGHT = 8
"""Of a second session: the weights, and the order in which its kernels want them."""
BLEND_BYTES = 16
"""Per sample that is blended: three float32 arrays and the result."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What an upscaler may take."""

    limit: int
    """Bytes of the whole process."""
    loaded: int
    """Bytes that the process holds, with the network loaded, before any image."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tiles that fit."""

    plan: TilePlan
    workers: int
    """Tiles computed at a time."""
    peak: int | None
    """Bytes that the process will take at most; None where that is not known."""


def free_budget(root: Path = Path("/")) -> MemoryBudget | None:
    """Give the budget where nothing was asked for: a share of what is free now. None where the system does not tell."""
    free, loaded = _free_bytes(root), resident_bytes()
    if free is None or loaded is None:
        return None
    return MemoryBudget(loaded + int(LARGEST_SHARE * free), loaded)


def _free_bytes(root: Path) -> int | None:
    """Give what the machine has left, or the container where that is less."""
    limits = (
        _kib(root / "proc/meminfo", "MemAvailable"),
        _left_in(root / "sys/fs/cgroup", "memory.max", "memory.current"),
        _left_in(root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
    )
    return min((limit for limit in limits if limit is not None), default=None)


def _left_in(folder: Path, limit_name: str, used_name: str) -> int | None:
    limit, used = read_text(folder / limit_name), read_text(folder / used_name)
    if limit is None or used is None or not (limit.isdigit() and used.isdigit()):  # "max" is no limit
        return None
    # Files that the system keeps in memory count as used, but make room when it is needed.
    counts = dict(line.split(maxsplit=1) for line in (read_text(folder / "memory.stat") or "").splitlines())
    cached = counts.get("total_inactive_file", counts.get("inactive_file", "0"))
    return max(int(limit) - int(used) + int(cached), 0)


def resident_bytes(*, peak: bool = False) -> int | None:
    """Give how much memory this process holds, or has held at most; None where /proc does not tell."""
    return _kib(Path("/proc/self/status"), "VmHWM" if peak else "VmRSS")


def _kib(path: Path, name: str) -> int | None:
    words = dict(colon_lines(path)).get(name, "").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def usable_cores() -> int:
    """Give how many cores this process may use."""
    # Not cpu_count: containers and `taskset` leave fewer.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_bytes(info: EngineInfo, plan: TilePlan, workers: int, width: int, dtype: DTypeLike, loaded: int) -> int:
    """Predict the peak of the process while it upscales one image on a CPU.

    Args:
        info: the network, with ``cpu_bytes_per_pixel``.
        plan: its tiles for the image.
        workers: tiles computed at a time.
        width: of the image, in input pixels.
        dtype: uint8 or uint16, of the image.
        loaded: bytes that the process holds before.
    """
    assert info.cpu_bytes_per_pixel is not None
    item, inner = np.dtype(dtype).itemsize, np.dtype(info.io_dtype).itemsize
    area, scale = plan.tile[0] * plan.tile[1], info.scale
    at_a_time = min(workers, plan.tile_count)
    activations = at_a_time * area * info.cpu_bytes_per_pixel
    results = 2 * at_a_time * area * 3 * (scale**2 + 1) * inner
    row_samples = width * scale * 3
    bands = 2 * plan.tile[0] * scale * row_samples * item
    ramp = max(row.ramp for row in plan.rows)
    blending = ramp * scale * row_samples * BLEND_BYTES
    image = plan.rows[-1].keep_stop * width * 3 * item
    second_session = info.params * BYTES_PER_WEIGHT if at_a_time > 1 else 0
    return loaded + activations + results + bands + blending + image + second_session


def fit_plan(
    size: tuple[int, int],
    dtype: DTypeLike,
    info: EngineInfo,
    budget: MemoryBudget,
    workers: int,
    *,
    tile: int | None = None,
    overlap: int | None = None,
) -> Fitted:
    """Choose the largest tiles that the budget allows; fewer cores only where smaller tiles do not help.

    Args:
        size: height and width of the image, in input pixels.
        dtype: of the image.
        info: a network of free size, with ``cpu_bytes_per_pixel``.
        budget: what may be taken.
        workers: the most tiles that may be computed at a time.
        tile: largest side of a tile; None chooses.
        overlap: as for ``plan_tiles``.

    Raises:
        UsageError: nothing fits; the hint says what would.
    """
    peaks = []
    sides = [tile] if tile else [None, *range(256, SMALLEST_TILE_PX - 1, -TILE_STEP_PX)]
    for count in sorted({workers, max(workers // 2, 1), 1}, reverse=True):
        for side in sides:
            plan = plan_tiles(*size, info, tile=side, overlap=overlap)
            peaks.append(peak_bytes(info, plan, count, size[1], dtype, budget.loaded))
            if peaks[-1] <= budget.limit:
                return Fitted(plan, count, peaks[-1])
    least = min(peaks)
    raise UsageError(
        f"an image of {size[1]}x{size[0]} needs {_mib(least)} MiB, more than the {_mib(budget.limit)} MiB allowed.",
        f"Give --max-memory {_mib(least) + 1}MiB or more, or cut the image into columns.",
    )


def _mib(amount: int) -> int:
    return -(-amount >> 20)
