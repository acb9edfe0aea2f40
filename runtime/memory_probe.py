"""How much memory ONNX Runtime takes on a CPU for each input pixel of a tile: measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.runtime.memory_plan import resident_bytes
from drc_deploy.runtime.onnx_sessions import OnnxSessions
from drc_deploy.runtime.onnxruntime_backend import read_info

SIDES_PX = (48, 96)
"""Tiles whose peaks are compared: what does not grow with the tile drops out."""
TIME_LIMIT_S = 600


def measure_bytes_per_pixel(path: Path) -> int | None:
    """Measure for a file of free size that ``drc-deploy export`` wrote; None where that is not possible."""
    command = [sys.executable, "-m", __name__, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    words = done.stdout.split()
    return int(words[-1]) if done.returncode == 0 and words and words[-1].isdigit() and int(words[-1]) > 0 else None


def _main(path: Path) -> None:
    sessions = OnnxSessions(path, threads=1, cpu_only=True)
    dtype = read_info(sessions.session, path).io_dtype
    peaks = []
    for side in SIDES_PX:
        tile = np.full((1, side, side, 3), 127, dtype)
        sessions.run([OUTPUT_NAME], {INPUT_NAME: tile})
        peaks.append(resident_bytes(peak=True) or 0)
    small, large = SIDES_PX
    print(round((peaks[1] - peaks[0]) / (large**2 - small**2)))  # noqa: T201 - read by the process that asked


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
