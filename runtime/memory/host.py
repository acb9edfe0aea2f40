"""How much memory this process may take, and how many cores it may use."""

import os
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.proc_files import colon_lines, read_text

LARGEST_SHARE = 0.5
"""Of the memory that is free: an upscaler's default limit."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory that an upscaler may take."""

    limit: int
    """Bytes of the whole process."""
    loaded: int
    """Bytes that the process holds, with the network loaded, before any image."""


def free_budget(root: Path = Path("/")) -> MemoryBudget | None:
    """Return the default budget: a share of the memory that is free now. None where the system does not report it."""
    free, loaded = _free_bytes(root), resident_bytes()
    if free is None or loaded is None:
        return None
    return MemoryBudget(loaded + int(LARGEST_SHARE * free), loaded)


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return all memory that the system can still grant, swap included; None where it does not report it."""
    free, swap = _free_bytes(root), kib_field(root / "proc/meminfo", "SwapFree")
    return None if free is None else free + (swap or 0)


def _free_bytes(root: Path) -> int | None:
    """Return what the machine has left, or the container where that is less."""
    limits = (
        kib_field(root / "proc/meminfo", "MemAvailable"),
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
    """Return how much memory this process holds, or has held at most; None without /proc."""
    return kib_field(Path("/proc/self/status"), "VmHWM" if peak else "VmRSS")


def kib_field(path: Path, name: str) -> int | None:
    """Return a field of ``/proc/meminfo`` or ``/proc/PID/status`` in bytes; None where it is missing."""
    words = dict(colon_lines(path)).get(name, "").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def usable_cores() -> int:
    """Return how many cores this process may use."""
    # Not cpu_count: containers and `taskset` leave fewer.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mib(amount: int) -> int:
    """Round bytes up to MiB."""
    return -(-amount >> 20)
