"""How the C library hands out memory in this process, set for networks that torch runs on a CPU.

torch asks for every activation anew. Left alone, glibc gives large ones back to the system at once, so that each page
is cleared again and again, and keeps smaller ones in pieces that do not fit the next. In huge pages the clearing is
cheap; with a border that does not move, what is held is what is alive.
"""

import os

from drc_deploy.runtime.allocator import map_large_blocks

HUGE_PAGES_VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""Read by torch once, when it allocates first."""
LARGEST_KEPT_BYTES = 4 << 20
"""Pieces as large go back to the system when they are free. Half of it and twice as much were no faster; from 16 MiB on
the process held a third more than what was alive."""


def tune_allocator() -> None:
    """Set it, where there is a glibc; to be called before torch allocates anything."""
    os.environ.setdefault(HUGE_PAGES_VARIABLE, "1")
    map_large_blocks(LARGEST_KEPT_BYTES)
