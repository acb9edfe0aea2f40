"""Processes of Ray, and what is done to them."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.patience import PATIENCE_S


def when(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Do something in a thread as soon as something is so."""

    def wait() -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def worker_at(path: str, kind: bytes = b"ray::Worker") -> int | None:
    """Return the worker that has a file open, or is in a folder, whose name begins so."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cmdline").read_bytes().startswith(kind) and any(
                os.readlink(link).startswith(path) for link in (process / "cwd", *process.joinpath("fd").iterdir())
            ):
                return int(process.name)
        except OSError:
            continue
    return None
