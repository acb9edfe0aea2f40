"""Lines for standard error that keep nobody waiting: not even where their reader has stopped, and the pipe is full."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue
from threading import Thread

from drc_deploy.printing import printable

_STANDARD_ERROR = 2
_MOST_WAITING = 1000
_END_S = 2.0
"""For the lines that are left at the end."""


class Lines:
    """Lines on their way; those that come while too many wait are only counted."""

    def __init__(self) -> None:
        """Begin to write."""
        self._waiting: Queue[str | None] = Queue(_MOST_WAITING)
        self._lost = 0
        self._thread = Thread(target=self._run, name="lines", daemon=True)  # it may never end
        self._thread.start()

    def put(self, text: str) -> None:
        """Write a text when the ones before are written."""
        try:
            self._waiting.put_nowait(printable(text))
        except Full:
            self._lost += 1

    def _run(self) -> None:
        while (text := self._waiting.get()) is not None:
            lost, self._lost = self._lost, 0
            if lost:
                text = f"{text}\n{lost} lines are missing here: nothing has read them."
            with suppress(OSError):  # as where the disk is full; `say` does so too
                _write(f"{text}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """Write what is left, unless nobody reads it."""
        with suppress(Full):
            self._waiting.put(None, timeout=_END_S)
            self._thread.join(_END_S)


def _write(line: bytes) -> None:
    """Write without ``sys.stderr``: whoever waits in there keeps the process from ending."""
    while line:
        line = line[os.write(_STANDARD_ERROR, line) :]


class _Handler(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.put(self.format(record))


@contextmanager
def log_lines() -> Iterator[Lines]:
    """Yield lines, to which all that is logged goes while the block runs."""
    lines = Lines()
    handler = _Handler(lines)
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        lines.close()
