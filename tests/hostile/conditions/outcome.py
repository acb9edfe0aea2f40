"""A command in a forked child, under a condition, and what became of it."""

import importlib
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.cli.main import main

MOST_SECONDS = 120.0
_BLOCK = 1 << 16
_READY = ("av", "matplotlib.figure", "onnx", "onnxruntime", "torch")
"""What commands import when they need it, and what a forked child then finds imported."""
_NEVER = ("Traceback", "fault of drc-deploy", "Exception ignored", "Segmentation", "terminate called")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    """Of its exit; negative: the signal that ended it."""
    printed: str
    """On both standard streams."""

    def fault(self) -> str:
        """Return what is wrong with the way in which it ended; nothing where it is done, or failed with sentences."""
        word = next((word for word in _NEVER if word in self.printed), "")
        if word or self.code < 0:
            return f"{word or signal.Signals(-self.code).name}: {self.printed[-300:]}"
        if self.code and not ("Error: " in self.printed and self.printed.rstrip().endswith(".")):
            return f"no sentences: {self.printed[-300:]}"
        return ""


def run(arguments: Sequence[str], folder: Path, condition: Callable[[], None]) -> Outcome:
    """Run a command in a child whose working folder is ``folder``, after ``condition`` was called there."""
    for package in _READY:
        importlib.import_module(package)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become(arguments, folder, condition, writer)
    os.close(writer)
    try:
        printed = _read(reader, time.monotonic() + MOST_SECONDS)
    finally:
        os.close(reader)
    if printed is None:
        os.killpg(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return Outcome(os.waitstatus_to_exitcode(status), "it took too long" if printed is None else printed)


def _become(arguments: Sequence[str], folder: Path, condition: Callable[[], None], writer: int) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(writer, stream)
        os.close(writer)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))  # not those of pytest
        condition()
        main(list(arguments))
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 70
    except BaseException:  # whatever it is, it is what the campaign looks for
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _read(reader: int, end: float) -> str | None:
    """Return all that is printed until the child has ended; None where it takes until ``end``."""
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while selector.select(max(end - time.monotonic(), 0)):
            block = os.read(reader, _BLOCK)
            if not block:
                return printed.decode(errors="replace")
            printed += block
    return None
