"""What travels through ssh between ``bench --remote`` and the machine that measures: lines of JSON, and files.

Each side writes an empty line now and then while it works, so that the other knows when the connection is lost: TCP
alone would tell after minutes, or never.
"""

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from drc_deploy import records
from drc_deploy.errors import ArtefactError, DrcDeployError

BEAT_S, SILENCE_S = 10.0, 60.0
"""Time between two signs of life, and how long the other side may give none."""
LONGEST_LINE = 64 << 20
_PIECE = getattr(select, "PIPE_BUF", 512)
"""A pipe that select calls writable takes so many bytes without blocking."""

Message = TypeVar("Message")


class LostError(Exception):
    """The other side is not there any more."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first words of the machine that measures."""

    version: str
    code: str
    """SHA-256 of the program: equal versions of a checkout need not be equal programs."""
    time_s: float
    """Its clock, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """A file that travels."""

    path: str
    """Relative to the folder of the run, or of the report."""
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse a size that no file has."""
        if self.size_bytes < 0:
            raise ValueError(f"{self.path} has {self.size_bytes} bytes")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done there."""

    folder: str | None
    """Keeps what was copied and built; None for a temporary one."""
    files: tuple[CarriedFile, ...]
    commands: tuple[tuple[str, ...], ...]
    """Arguments of drc-deploy, to be run one after the other in the folder; the last is the measurement."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Which files of the job are not there yet."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Coming:
    """The content of a file of the job follows."""

    index: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The measurement has ended; the contents of its files follow."""

    exit_code: int
    files: tuple[CarriedFile, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Everything is sent, and what was temporary is removed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error instead of what was expected; nothing follows."""

    message: str
    hint: str


class Wire:
    """One end of the connection.

    Args:
        source: File descriptor to read from.
        sink: File descriptor to write to.
        peer: What errors call the other end.
        silence_s: How long it may give no sign of life.
    """

    def __init__(self, source: int, sink: int, peer: str, silence_s: float = SILENCE_S) -> None:
        self._source, self._sink, self._peer, self._silence_s = source, sink, peer, silence_s
        self._buffer = bytearray()
        self._heard = time.monotonic()
        self._writing = threading.Lock()

    def send(self, message: object) -> None:
        """Send one of the records above.

        Raises:
            LostError: nobody takes it.
        """
        self.write(json.dumps({"kind": type(message).__name__, **records.to_dict(message)}).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            LostError: nobody takes them.
        """
        view = memoryview(data)
        with self._writing:
            while view:
                if not select.select([], [self._sink], [], self._silence_s)[1]:
                    raise LostError
                try:
                    view = view[os.write(self._sink, view[:_PIECE]) :]
                except OSError as error:
                    raise LostError from error

    def receive(self, expected: type[Message]) -> Message:
        """Wait for a message of one kind; empty lines before it are signs of life.

        Raises:
            DrcDeployError: the other side sent a ``Failure`` instead.
            ArtefactError: it sent something else.
            LostError: it is gone.
        """
        while not (line := self.line(self._silence_s)):
            pass
        values = records.parse_json_object(line, self._peer)
        if values.get("kind") == Failure.__name__:
            failure = records.from_dict(Failure, values, self._peer)
            raise DrcDeployError(f"{self._peer}: {failure.message}", failure.hint)
        if values.get("kind") != expected.__name__:
            raise ArtefactError(f"{self._peer} sent {values.get('kind')!r}, not {expected.__name__}.")
        return records.from_dict(expected, values, self._peer)

    def line(self, patience_s: float | None) -> bytes:
        """Return the next line without its end; ``patience_s`` is how long nothing may come, None for ever.

        Raises:
            LostError: nothing came, the connection is closed, or the line has no end.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise LostError
            self._fill(patience_s)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def content(self, size_bytes: int) -> Iterator[bytes]:
        """Return the next bytes as they come, ``size_bytes`` in all.

        Raises:
            LostError: they do not come.
        """
        while size_bytes:
            if not self._buffer:
                self._fill(self._silence_s)
            piece = bytes(self._buffer[:size_bytes])
            del self._buffer[: len(piece)]
            size_bytes -= len(piece)
            yield piece

    def listen(self, seconds: float) -> None:
        """Wait so long, and find out whether the other side is there.

        Raises:
            LostError: the connection is closed, or it has given no sign of life for too long.
        """
        with contextlib.suppress(TimeoutError):
            self._read(seconds)
        if time.monotonic() - self._heard > self._silence_s:
            raise LostError

    def _fill(self, patience_s: float | None) -> None:
        try:
            self._read(patience_s)
        except TimeoutError as error:
            raise LostError from error

    def _read(self, seconds: float | None) -> None:
        if not select.select([self._source], [], [], seconds)[0]:
            raise TimeoutError
        try:
            data = os.read(self._source, 1 << 16)
        except OSError as error:
            raise LostError from error
        if not data:
            raise LostError
        self._heard = time.monotonic()
        self._buffer += data

    @contextlib.contextmanager
    def beating(self, every_s: float = BEAT_S) -> Iterator[None]:
        """Return signs of life while the block works or waits."""
        over = threading.Event()

        def beat() -> None:
            with contextlib.suppress(LostError):  # whoever reads finds out
                while not over.wait(every_s):
                    self.write(b"\n")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
