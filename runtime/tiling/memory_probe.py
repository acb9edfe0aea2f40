"""Memory of ONNX Runtime on a CPU for each input pixel of a tile, measured in a separate process.

It is the same in every run, so that a network is exported to the same bytes: counted are blocks, and not pages.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from drc_deploy.engine_info import EXACT_SUFFIX
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.memory.heap import give_back_freed, mapped_bytes
from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.tiling.exact import open_exact

SIDE_PX = 128
"""Least side of the tile: large enough for what does not grow with it to matter little."""
TIME_LIMIT_S = 600
STEP_BYTES = 64
"""Results are multiples of it: a MiB of the tile, for small blocks and for the code that a run brings into memory."""


def measure_bytes_per_pixel(path: Path) -> int | None:
    """Measure for a file that ``drc-deploy export`` wrote; None where that is not possible."""
    command = [sys.executable, "-m", __name__, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    words = done.stdout.split()
    return int(words[-1]) if done.returncode == 0 and words and words[-1].isdigit() and int(words[-1]) > 0 else None


def _main(path: Path) -> None:
    opened = open_exact if path.name.endswith(EXACT_SUFFIX) else OnnxRuntimeBackend
    backend: Backend = opened(path, threads=1, cpu_only=True)
    height, width = backend.info.taken_sides(SIDE_PX, SIDE_PX)
    tile = np.full((1, height, width, 3), 127, backend.info.io_dtype)
    give_back_freed()  # or the tile would lie in what loading has left
    loaded = _held_bytes()
    backend.run(tile)
    # Not the peak, which may be that of loading: the arena keeps what the run took.
    steps = -(-(_held_bytes() - loaded) // (height * width * STEP_BYTES))
    print(steps * STEP_BYTES)  # noqa: T201 - read by the process that asked


def _held_bytes() -> int:
    mapped = mapped_bytes()
    return (resident_bytes() or 0) if mapped is None else mapped


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
