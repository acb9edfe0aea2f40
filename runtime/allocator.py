"""What the C library keeps of freed memory, given back to the system, so that a process holds what it uses."""

import ctypes
import functools
from collections.abc import Callable


def give_back_freed() -> None:
    """Give back what is free inside the heap; nothing happens where the C library has no ``malloc_trim``.

    Loading a network frees as much as it keeps, in pieces that the allocator would rather hold on to.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # TypeError: Windows knows no library without a name
        return None
    return trim
