"""What made the results in a folder, so that ``--skip-existing`` knows those of another engine or of other options.

Each folder of results has a hidden file with one line of JSON for each result, the newest last. A line is appended in
one piece: several processes can do so at once, and damage costs a line. A line holds the size and time of its result,
so that it never speaks of another file of that name. A result without a line, such as one of another program, counts
by its time alone.

Storage elsewhere appends nothing: there each result has a file of its own with its line, in a hidden folder.
"""

import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from drc_deploy.files import version_of
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.remote.url import Place, Url, Version

NAME, FOLDER = ".drc-deploy.jsonl", ".drc-deploy"
_MOST_BYTES, _MOST_LINE_BYTES = 1 << 30, 1 << 16
"""Older lines are not read than those of the last four million results, nor longer ones."""
_NUMBERS = struct.Struct("<2q")


@dataclass(frozen=True, slots=True)
class Record:
    """One result."""

    name: str
    """Of its file."""
    made_by: str
    """SHA-256 of the engine's content and of all options that pixels depend on."""
    source: Version
    result: Version


class Records:
    """The records of results that are, or would be, made by one engine with the same options."""

    def __init__(self, made_by: Mapping[str, object]) -> None:
        """Take what pixels depend on besides the source: numbers, texts and the like."""
        self._made_by = hashlib.sha256(json.dumps(dict(made_by), sort_keys=True, default=str).encode()).hexdigest()
        self._of_folder, self._results_in = cache(_read), cache(_results)

    def of(self, made_by: Mapping[str, object]) -> "Records":
        """Return those of other results in the same folders, which are not read once more for them."""
        others = Records(made_by)
        others._of_folder, others._results_in = self._of_folder, self._results_in
        return others

    def __getstate__(self) -> str:
        """Return what another process needs: it reads the files of folders itself, once."""
        return self._made_by

    def __setstate__(self, made_by: str) -> None:
        self._made_by = made_by
        self._of_folder, self._results_in = cache(_read), cache(_results)

    def same(self, job: UpscaleJob) -> bool | None:
        """Return whether the result is the one that would be made now; None where nothing is known of it."""
        if job.source is None or job.target is None:
            return None
        return self.made(job.target, version_of(job.source), version_of(job.target))

    def result(self, target: Place) -> Version | None:
        """Return the version of a result that is there; each folder on storage elsewhere is listed once."""
        return version_of(target) if isinstance(target, Path) else self._results_in(target.parent).get(target.name)

    def made(self, target: Place, source: Version | None, result: Version | None) -> bool | None:
        """Return whether a result of this version would be made of this source now; None where nothing is known."""
        known = self._of_folder(target.parent).get(target.name)
        if known is None or result is None or not known.startswith(_NUMBERS.pack(*result)):
            return None
        return source is not None and known == _packed(Record(target.name, self._made_by, source, result))

    def is_result(self, file: Place | None) -> bool:
        """Return whether a file of this machine is a result, whatever made it, as it was written."""
        if not isinstance(file, Path):
            return False
        known = self._of_folder(file.parent).get(file.name, b"")
        version = version_of(file) if known else None
        return version is not None and known.startswith(_NUMBERS.pack(*version))

    def keep(self, source: Version, target: Path) -> None:
        """Add a result that was just made, of what was ``source``; where that cannot be written nothing is known."""
        result = version_of(target)
        if result is None:
            return
        with suppress(OSError):
            _append(target.parent / NAME, self._line(target.name, source, result))

    def keep_there(self, source: Version, target: Url) -> None:
        """Do as ``keep`` does, for a result on storage elsewhere."""
        from drc_deploy.runtime.remote import storage

        if result := storage.version_of(target):
            storage.put_bytes(self._line(target.name, source, result), target.parent / FOLDER / target.name)

    def _line(self, name: str, source: Version, result: Version) -> bytes:
        return json.dumps(dataclasses.asdict(Record(name, self._made_by, source, result))).encode() + b"\n"


def _append(path: Path, line: bytes) -> None:
    # Neither through a link to a file of somebody else's, nor into a pipe that nobody reads.
    guards = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | guards, 0o666)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def _results(folder: Url) -> dict[str, Version | None]:
    from drc_deploy.runtime.remote import storage

    return {file.name: file.version for file in storage.files_in(folder)}


def _read(folder: Place) -> dict[str, bytes]:
    """Return the newest record of each result in a folder, ``_packed``."""
    if isinstance(folder, Url):
        from drc_deploy.runtime.remote import storage

        return _records_of(storage.contents_below(folder / FOLDER))
    path = folder / NAME
    if version_of(path) is None:  # nor a pipe, which would be waited for
        return {}
    try:
        with path.open("rb") as stream:
            return _records_of(_newest_lines(stream))
    except OSError:
        return {}


def _newest_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the last lines, one after the other; pieces of what is longer than a line can be."""
    stream.seek(max(stream.seek(0, os.SEEK_END) - _MOST_BYTES, 0))
    return iter(partial(stream.readline, _MOST_LINE_BYTES), b"")


def _records_of(lines: Iterable[bytes]) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    for line in lines:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError, struct.error):  # damaged, or of a later version
            record = msgspec.json.decode(line, type=Record)
            records[record.name] = _packed(record)
    return records


def _packed(record: Record) -> bytes:
    """Return all of a record but its name, the result first: a folder may have a million, and objects are large."""
    return _NUMBERS.pack(*record.result) + _NUMBERS.pack(*record.source) + bytes.fromhex(record.made_by)
