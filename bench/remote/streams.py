"""What the other machine sends and prints, with limits of its size and of the time in which nothing comes."""

import io
import os
import select
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, cast

from drc_deploy.errors import ArtefactError, DrcDeployError
from drc_deploy.printing import say

if TYPE_CHECKING:
    from typing_extensions import Buffer

PATIENCE_S = 180.0
"""A server closes a login after two minutes, and a side at work beats every few seconds."""
MOST_TALK_BYTES = 1 << 24
"""A login prints a page, and a kept folder has a line of 150 bytes for each file."""
MOST_PRINTED_BYTES = 1 << 18
"""A benchmark of a day prints a line of progress every ten seconds."""
_LINE_BYTES, _LAST_LINES = 4096, 10


class Incoming(io.BufferedReader):
    """What comes from the other machine. Reading fails with a DrcDeployError where nothing comes, or too much."""

    def __init__(self, stream: IO[bytes], host: str, most: int = MOST_TALK_BYTES) -> None:
        """Read ``most`` bytes of an unbuffered stream at most."""
        self._source = _Source(stream, host, most)
        super().__init__(self._source)

    def begins(self, mark: bytes) -> bool:
        """Skip what a login prints, and return whether the line ``mark`` came before the stream ended.

        Raises:
            DrcDeployError: it did not come in time.
        """
        self._source.end = time.monotonic() + PATIENCE_S
        found = any(line.rstrip() == mark for line in self)
        self._source.end = None
        return found


class _Source(io.RawIOBase):
    def __init__(self, stream: IO[bytes], host: str, most: int) -> None:
        self._stream, self._host, self._left = stream, host, most
        self.end: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        wait = PATIENCE_S if self.end is None else max(self.end - time.monotonic(), 0)
        if not select.select([self._stream], [], [], wait)[0]:
            raise silent(self._host) if self.end is None else _does_not_begin(self._host)
        count = os.readv(self._stream.fileno(), [buffer])
        self._left -= count
        if self._left < 0:
            raise ArtefactError(
                f"{self._host} sends far more than drc-deploy does.", "Check what its login and its shell print."
            )
        return count


class Outgoing:
    """What goes to a program on the other machine."""

    def __init__(self, stream: IO[bytes], host: str) -> None:
        self._stream, self._host = stream, host

    def write(self, data: bytes) -> int:
        """Write all of ``data`` and return its length.

        Raises:
            DrcDeployError: nobody takes it.
        """
        for start in range(0, len(data), select.PIPE_BUF):  # so much goes into a pipe that is ready, without waiting
            if not select.select([], [self._stream], [], PATIENCE_S)[1]:
                raise silent(self._host)
            os.write(self._stream.fileno(), data[start : start + select.PIPE_BUF])
        return len(data)


def silent(host: str) -> DrcDeployError:
    """Return the error of a machine that has stopped in the middle of a run."""
    return DrcDeployError(
        f"{host} has been silent for {PATIENCE_S:.0f} seconds.", "Check that it still runs, and type the command again."
    )


def _does_not_begin(host: str) -> DrcDeployError:
    return DrcDeployError(
        f"{host} did not start drc-deploy within {PATIENCE_S:.0f} seconds.",
        "Check that a login there ends in a shell that takes commands, and that the machine is not overloaded.",
    )


def print_messages(stream: IO[bytes], host: str) -> threading.Thread:
    """Print what a program writes on standard error, in a thread that ends with it; of very much the begin and the end.

    Its last lines say what went wrong.
    """
    thread = threading.Thread(target=_print, args=(stream, host), daemon=True)
    thread.start()
    return thread


def _print(stream: IO[bytes], host: str) -> None:
    left, hidden, last = MOST_PRINTED_BYTES, 0, deque[bytes](maxlen=_LAST_LINES)
    with io.BufferedReader(cast("io.RawIOBase", stream)) as lines:
        while line := lines.readline(_LINE_BYTES):
            left -= len(line)
            if left >= 0:
                _say(line)
                continue
            hidden += 1
            last.append(line)
    if hidden > len(last):
        say(f"({hidden - len(last)} lines of {host} are left out here.)", err=True)
    for line in last:
        _say(line)


def _say(line: bytes) -> None:
    say(line.decode(errors="replace").rstrip("\r\n"), err=True)
