"""One input in a forked child with limits, and what became of it."""

import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drc_deploy.errors import DrcDeployError

Kind = Literal["right", "refused", "fault"]

MOST_BYTES = 4 << 30
"""Of memory that a child may add to what it was forked with."""
MOST_SECONDS = 60.0
_RIGHT, _REFUSED, _FAULT = 0, 1, 2
_POLL_S = 0.002


class WrongResultError(Exception):
    """A result that an independent reader contradicts."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an input."""

    kind: Kind
    detail: str = ""
    """Of a fault: the last line of its traceback, or what ended the child; of a refusal, the sentence."""


def attempt(reader: Callable[[Path], None], path: Path, folder: Path, *, seconds: float = MOST_SECONDS) -> Result:
    """Run ``reader`` on a file in a child that works in ``folder``.

    Returns:
        right: it returned. refused: it raised a ``DrcDeployError``. fault: it raised anything else, was killed, took
        more than ``seconds`` or ``MOST_BYTES``, or left more files in the folder after a refusal.
    """
    with tempfile.TemporaryFile() as words:
        before = files_in(folder)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.chdir(folder)
            _run(reader, path, words.fileno())
        status = _wait(child, seconds)
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
        left = sorted(files_in(folder) - before)
    if status is None:
        return Result("fault", f"it took more than {seconds:g} s")
    if os.WIFSIGNALED(status):
        return Result("fault", f"{signal.Signals(os.WTERMSIG(status)).name}: {said[-200:]}")
    code = os.WEXITSTATUS(status)
    if code == _REFUSED and left:
        return Result("fault", f"it left {', '.join(left)} after: {said[-200:]}")
    kinds: dict[int, Kind] = {_RIGHT: "right", _REFUSED: "refused"}
    return Result(kinds.get(code, "fault"), said[-3000:])


def files_in(folder: Path) -> set[str]:
    """Return all files in a folder and those in it, by their relative paths."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _run(reader: Callable[[Path], None], path: Path, words: int) -> None:
    """Read the file in this child and leave it with a code."""
    code = _FAULT
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, resource.RLIM_INFINITY))
        reader(path)
        code = _RIGHT
    except DrcDeployError as error:
        code = _REFUSED
        os.write(words, f"{error.message} {error.hint}".encode(errors="replace"))
    except BaseException:  # whatever it is, it is what the campaign looks for
        os.write(words, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    """Return the status of the child, or None where it and what it has started had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(_POLL_S)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
