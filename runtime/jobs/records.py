"""What made the results in a folder, so that ``--skip-existing`` knows those of another engine or of other options.

Each folder of results has a hidden file with one line of JSON for each result, the newest last. A line is appended in
one piece: several processes can do so at once, and damage costs a line. A line holds the size and time of its result,
so that it never speaks of another file of that name. A result without a line, such as one of another program, counts
by its time alone.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from drc_deploy.files import version_of
from drc_deploy.runtime.jobs.plan import UpscaleJob

NAME = ".drc-deploy.jsonl"
_MOST_BYTES = 64 << 20
"""More is not read: a quarter of a million results."""

Version = tuple[int, int]
"""Of ``version_of``."""


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
        self._of_folder = cache(_read)

    def __getstate__(self) -> str:
        """Return what another process needs: it reads the files of folders itself, once."""
        return self._made_by

    def __setstate__(self, made_by: str) -> None:
        self._made_by, self._of_folder = made_by, cache(_read)

    def same(self, job: UpscaleJob) -> bool | None:
        """Return whether the result is the one that would be made now; None where nothing is known of it."""
        if job.source is None or job.target is None:
            return None
        record = self._of_folder(job.target.parent).get(job.target.name)
        if record is None or record.result != version_of(job.target):
            return None
        return (record.made_by, record.source) == (self._made_by, version_of(job.source))

    def keep(self, source: Version, target: Path) -> None:
        """Add a result that was just made, of what was ``source``; where that cannot be written nothing is known."""
        result = version_of(target)
        if result is None:
            return
        line = json.dumps(dataclasses.asdict(Record(target.name, self._made_by, source, result))) + "\n"
        with suppress(OSError):
            _append(target.parent / NAME, line.encode())


def _append(path: Path, line: bytes) -> None:
    # Neither through a link to a file of somebody else's, nor into a pipe that nobody reads.
    guards = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | guards, 0o666)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def _read(folder: Path) -> dict[str, Record]:
    """Return the newest record of each result in a folder."""
    path = folder / NAME
    if version_of(path) is None:  # nor a pipe, which would be waited for
        return {}
    try:
        with path.open("rb") as stream:
            lines = stream.read(_MOST_BYTES).splitlines()
    except OSError:
        return {}
    records: dict[str, Record] = {}
    for line in lines:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):  # damaged, or of a later version
            record = msgspec.json.decode(line, type=Record)
            records[record.name] = record
    return records
