"""Programs of the machine that are asked: once, or for a line at every beat."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from drc_deploy.errors import MissingDependencyError

TIMEOUT_S = 10.0
PLAIN = {"LC_ALL": "C"}
"""No language: the output is parsed."""

Run = Callable[[Sequence[str]], str]
"""Gives what a command printed; raises MissingDependencyError if it is not there or fails."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The output of a program that goes on until it is closed."""

    lines: Iterator[str]
    close: Callable[[], None]


Follow = Callable[[Sequence[str]], Lines]
"""Starts a program; raises MissingDependencyError if it is not there."""


def run_command(command: Sequence[str]) -> str:
    """Run a command and give what it printed.

    Raises:
        MissingDependencyError: it is not there, it failed, or it did not end.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | PLAIN,
        )
    except OSError as error:
        raise MissingDependencyError(f"{command[0]} does not run on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise MissingDependencyError(f"{command[0]} did not answer within {TIMEOUT_S:.0f} s.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MissingDependencyError(f"{command[0]} failed: {said[0].rstrip('.') if said else 'it said nothing'}.")
    return done.stdout


def follow_command(command: Sequence[str]) -> Lines:
    """Start a command whose output is read line by line.

    Raises:
        MissingDependencyError: it is not there.
    """
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=os.environ | PLAIN,
            start_new_session=True,  # so that all that it starts can be ended
        )
    except OSError as error:
        raise MissingDependencyError(f"{command[0]} does not run on this machine.") from error

    closing = Lock()

    def close() -> None:
        with closing:  # a timer and its thread may both close
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout:
                with contextlib.suppress(OSError, ValueError):
                    process.stdout.close()

    return Lines(iter(process.stdout or ()), close)
