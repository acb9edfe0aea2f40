"""A store in the making, which survives Ctrl-C, SIGKILL, a power cut and a full disk.

Pixels are appended to ``pixels.bin``, and the outcome for each source, in the order of the sources, to
``journal.jsonl``. A line of the journal is written only when the pixels before it are on disk; its first line is the
request. What is on disk beyond the journal is cut off when the work goes on.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from drc_deploy import records
from drc_deploy.errors import ArtefactError, OutputError, UsageError
from drc_deploy.files import write_text
from drc_deploy.progress import progress
from drc_deploy.train.data.decoding import Catalogue, Decoded
from drc_deploy.train.data.photographs import content_sha256
from drc_deploy.train.data.store import (
    INDEX,
    JOURNAL,
    PIXELS,
    STORE_FORMAT,
    STORE_VERSION,
    StoredEntry,
    StoreIndex,
    StoreRequest,
)
from drc_deploy.train.interruption import whole_step

FLUSH_INTERVAL_S = 2.0
"""How many seconds of work a SIGKILL or a power cut may cost."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What became of one source: exactly one of the two."""

    entry: StoredEntry | None
    skipped: str | None


class UnfinishedStore:
    """Begins a store, or goes on with the one that an interrupted run left; use it as a context.

    Raises:
        UsageError: the interrupted run had another request; the message lists the differences.
        ArtefactError: its journal is damaged or of another version.
        OutputError: from every method, when the disk is full; what was finished stays.
    """

    def __init__(self, folder: Path, request: StoreRequest) -> None:
        self.catalogue = Catalogue()
        self.done = 0
        """Sources whose outcome is known."""
        self._folder, self._request = folder, request
        self._digest = hashlib.sha256()
        self._pending: list[str] = []
        self._end = 0
        """Bytes of pixels up to the last whole outcome."""
        self._flushed_at = time.monotonic()
        with _output_errors(folder):
            if not (folder / JOURNAL).exists():
                header = {**records.to_dict(request), "version": STORE_VERSION}
                write_text(folder / JOURNAL, json.dumps(header) + "\n")
            self._pixels: BinaryIO = (folder / PIXELS).open("a+b", buffering=0)
            self._journal: BinaryIO = (folder / JOURNAL).open("r+b", buffering=0)
            try:
                self._recover()
            except BaseException:
                self._close()
                raise

    def _recover(self) -> None:
        """Take over the finished outcomes whose pixels are there and right; cut off what follows them."""
        with (self._folder / JOURNAL).open("rb") as journal:
            header = journal.readline()
            check_same(_parse_header(header, self._folder), self._request, self._folder)
            lines = journal.readlines()
        end = len(header) + (self._take_over_all(lines) if lines else 0)
        self._journal.truncate(end)
        self._journal.seek(end)
        self._end = self.catalogue.size * 3
        self._pixels.truncate(self._end)

    def _take_over_all(self, lines: list[bytes]) -> int:
        """Return how many bytes of the journal hold."""
        held = 0
        self._pixels.seek(0)
        with progress("Checking what was prepared", len(lines)) as bar:
            for text in lines:
                line = _parse_line(text)
                if line is None or not self._take_over(line):
                    break
                held += len(text)
                self.done += 1
                bar.advance()
        return held

    def _take_over(self, line: _Line) -> bool:
        if line.skipped is not None:
            self.catalogue.add(line.skipped)
            return True
        assert line.entry is not None
        images = []
        for placed in line.entry.placed():
            data = self._pixels.read(placed.height * placed.width * 3)
            if len(data) != placed.height * placed.width * 3:
                return False
            images.append(np.frombuffer(data, np.uint8).reshape(placed.height, placed.width, 3))
        if content_sha256(*images) != line.entry.sha256:
            return False
        for image in images:
            self._digest.update(image.data)
        self.catalogue.append(line.entry.entry())
        return True

    def add(self, outcome: Decoded | str) -> None:
        """Write the outcome for the next source: its pixels, or why there are none."""
        with whole_step(), _output_errors(self._folder):
            entry = self.catalogue.add(outcome)
            if entry is None:
                line = _Line(None, self.catalogue.skipped[-1])
            else:
                assert isinstance(outcome, Decoded)
                line = _Line(StoredEntry.of(entry), None)
                for image in outcome.images():
                    self._digest.update(image.data)
                    _write(self._pixels, image.data.cast("B"))
            self._pending.append(records.to_json(line) + "\n")
            self.done += 1
            self._end = self.catalogue.size * 3
            if time.monotonic() - self._flushed_at > FLUSH_INTERVAL_S:
                self._flush()

    def _flush(self) -> None:
        lines, self._pending = "".join(self._pending), []
        os.fsync(self._pixels.fileno())
        _write(self._journal, memoryview(lines.encode()))
        os.fsync(self._journal.fileno())
        self._flushed_at = time.monotonic()

    def finish(self, skipped: tuple[str, ...]) -> StoreIndex:
        """Write the index, which makes the store whole; ``skipped`` goes before what was skipped here."""
        catalogue = self.catalogue
        index = StoreIndex(
            STORE_FORMAT,
            STORE_VERSION,
            self._request,
            tuple(StoredEntry.of(entry) for entry in catalogue.entries),
            (*skipped, *catalogue.skipped),
            self._digest.hexdigest(),
            catalogue.size * 3,
        )
        with _output_errors(self._folder):
            self._flush()
            write_text(self._folder / INDEX, records.to_json(index))
            (self._folder / JOURNAL).unlink()
        return index

    def __enter__(self) -> "UnfinishedStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Keep what is finished."""
        try:
            with whole_step(), _output_errors(self._folder):
                if kind is not None:
                    self._pixels.truncate(self._end)  # on a full disk, this makes room for the journal
                    self._flush()
        except OutputError:
            pass  # `kind` is on its way already
        finally:
            self._close()

    def _close(self) -> None:
        self._pixels.close()
        self._journal.close()


def check_same(before: StoreRequest, now: StoreRequest, store: Path) -> None:
    """Check that a store was asked to hold what it is asked to hold now.

    Raises:
        UsageError: it was not; the message lists what differs.
    """
    differing = [
        f"{name} {getattr(before, field)} then, {getattr(now, field)} now"
        for name, field in (("folders", "folders"), ("--lr", "lr"), ("--min-side", "min_side"))
        if getattr(before, field) != getattr(now, field)
    ]
    old, new = ({path: rest for path, *rest in request.files} for request in (before, now))
    for what, paths in (
        ("new", new.keys() - old.keys()),
        ("missing", old.keys() - new.keys()),
        ("changed", {path for path in new.keys() & old.keys() if new[path] != old[path]}),
    ):
        if paths:
            differing.append(f"{len(paths)} files {what}, as {min(paths)}")
    if differing:
        raise UsageError(
            f"{store} was begun with other sources or options: {'; '.join(differing)}.",
            "Use the same ones, choose another folder, or add --restart to begin anew.",
        )


def _parse_header(text: bytes, store: Path) -> StoreRequest:
    data = records.parse_json_object(text, f"{store / JOURNAL}")
    if data.get("version") != STORE_VERSION:
        raise ArtefactError(f"{store} was begun by another version of drc-deploy.", "Add --restart to begin anew.")
    return records.from_dict(StoreRequest, data, str(store / JOURNAL))


def _parse_line(text: bytes) -> _Line | None:
    """Return a line of the journal, or None for one that was cut off or damaged."""
    try:
        line = records.from_dict(_Line, records.parse_json_object(text, JOURNAL), JOURNAL)
    except ArtefactError:
        return None
    return line if text.endswith(b"\n") and (line.entry is None) != (line.skipped is None) else None


def _write(file: BinaryIO, data: memoryview) -> None:
    """Write all of ``data``; an unbuffered file may take it in parts."""
    while data:
        data = data[file.write(data) :]


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror or error}.",
            "Free some space and run the same command again: it goes on where it stopped.",
        ) from error
