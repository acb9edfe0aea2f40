"""The C library's heap, set to return freed memory to the system, so that a process holds only what it uses."""

import ctypes
import functools
import os

_M_MMAP_THRESHOLD = -3
"""Option of glibc's ``mallopt``: blocks of so many bytes and more are mapped from the system one by one."""
LARGE_BYTES = 1 << 18
HUGE_PAGES_VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""Read by torch once, when it allocates first."""
LARGEST_KEPT_BYTES = 4 << 20
"""Pieces as large go back to the system when they are free. Half of it and twice as much were no faster; from 16 MiB on
the process held a third more than what was alive."""


@functools.cache
def map_large_blocks(least: int = LARGE_BYTES) -> None:
    """Have blocks of ``least`` bytes and more mapped one by one and given back when freed, where the C library can.

    By itself glibc raises its threshold with every large block that is freed. It keeps such blocks in its heaps,
    one for each thread: up to a quarter of the memory of a run.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, least)


def give_back_freed() -> None:
    """Return free memory inside the heap to the system; nothing happens where the C library cannot.

    Loading a network frees as much as it keeps, in pieces that the allocator would rather hold on to.
    """
    _call("malloc_trim", 0)


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    _fields_ = (("before", ctypes.c_size_t * 4), ("hblkhd", ctypes.c_size_t), ("after", ctypes.c_size_t * 5))


def mapped_bytes() -> int | None:
    """Return the bytes of all blocks that are mapped one by one, see ``map_large_blocks``; None without glibc 2.33.

    What of it has been written to, and what else the system counts for a process, does not matter.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, TypeError, AttributeError):  # as for ``_call``; AttributeError: another C library
        return None
    mallinfo.restype = _MallInfo
    return int(mallinfo().hblkhd)


def _call(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # TypeError: Windows knows no library without a name
        return
    if function is not None:
        function(*arguments)


def tune_allocator() -> None:
    """Set it, where there is a glibc. Call it before torch allocates anything."""
    os.environ.setdefault(HUGE_PAGES_VARIABLE, "1")
    map_large_blocks(LARGEST_KEPT_BYTES)
