"""The folder of a video's finished segments, with their checksums and the note of what they were made from and by.

One process makes them all, or several make parts that follow each other.
"""

import hashlib
import json
import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.errors import OutputError
from drc_deploy.files import cannot_write, check_writable, sha256_of, write_text
from drc_deploy.input_files import read_bytes
from drc_deploy.only_one import only_one
from drc_deploy.runtime.video.encoders import SEGMENT_SUFFIXES

_log = logging.getLogger(__name__)

_NOTE = "made_from.json"
_SUMS = "SHA256SUMS"
"""One line for the note and each finished segment, as sha256sum writes it. Parts have lists with longer names.

A list counts where its note is that of the work at hand."""


@dataclass(frozen=True, slots=True)
class Part:
    """Segments that follow each other."""

    first: int = 0
    stop: int | None = None
    """The first of the next part; None: there is none, and nobody knows how many segments there will be."""

    def __contains__(self, index: int) -> bool:
        return self.first <= index and (self.stop is None or index < self.stop)


WHOLE = Part()
"""A video."""


def segments_folder(target: Path, source: str) -> Path:
    """Return where the segments of ``target`` go: one place for any of its formats, unless another source is there."""
    folder = target.with_name(f"{target.stem}.segments")
    note = _content(folder / _NOTE)
    # A damaged one would name another source, and what is here would stay for ever.
    if _sums_in(folder / _SUMS).get(_NOTE) != hashlib.sha256(note).hexdigest():
        return folder
    with suppress(ValueError, AttributeError, RecursionError):
        if json.loads(note).get("source", source) != source:
            return target.with_name(f"{target.name}.segments")
    return folder


class Segments:
    """The folder of finished segments: a segment is whole or not there.

    It lies on a disk for days, and others may write to it. What is not as it was written is made anew.

    Attributes:
        folder: Where they are.
        part: Which of them are made here.
    """

    def __init__(self, folder: Path, suffix: str, made_from: Mapping[str, object], part: Part = WHOLE) -> None:
        """Take a folder that may not exist yet.

        Args:
            folder: Of one video.
            suffix: Of the segments.
            made_from: All that they depend on, as JSON values.
            part: Which of them are made here.
        """
        self.folder, self.part, self._suffix = folder, part, suffix
        self._made_from = json.dumps(dict(made_from), sort_keys=True, indent=2)
        self._note_sum = hashlib.sha256(self._made_from.encode()).hexdigest()
        self._finished: set[int] = set()
        self._handed_out: deque[int] = deque()
        """What ``path`` has returned that is not noted yet."""
        self._sums = folder / _SUMS

    @contextmanager
    def owned(self, *, leave: bool = False) -> Iterator[None]:
        """Keep other processes out of the folder, which is there while something is in it.

        Args:
            leave: leave it there though nothing is finished, for the parts that follow.

        Raises:
            OutputError: another one is in it, or it cannot be made.
        """
        check_writable(self.folder)
        with only_one(self.folder):
            try:
                yield
            finally:
                with suppress(OSError):
                    self._note_finished()
                with suppress(OSError):
                    if not self._finished and not leave:  # nothing to go on after
                        self.clear()
                    self.folder.rmdir()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keep processes out of the folder but for those that make other parts.

        Raises:
            OutputError: another one is in it, or has removed it.
        """
        with only_one(self.folder, shared=True):
            try:
                yield
            finally:
                with suppress(OSError):
                    self._note_finished()

    def begin(self) -> int:
        """Keep what was made from the same and is as it was written, and nothing else; return how many segments.

        Raises:
            OutputError: the folder is not writable, or holds a folder or a pipe where a file goes.
        """
        lists = self._lists()
        found = [sums for path in lists if (sums := _sums_in(path))]
        # Where there are no locks, as on some network drives, a worker may still be making parts of something else.
        is_ours = _content(self.folder / _NOTE) == self._made_from.encode()
        ours = [sums for sums in found if is_ours and sums.get(_NOTE) == self._note_sum]
        sums = {name: each for part in ours for name, each in part.items()}
        if found and not ours:
            _log.warning("The unfinished work in %s is of another source, engine or options: begun anew.", self.folder)
        self._keep(sums)
        write_text(self.folder / _NOTE, self._made_from)
        self._write_sums(sums)
        for path in lists:
            if path != self._sums:
                path.unlink()
        return len(self._finished)

    def take_part(self) -> None:
        """Keep what is finished of this part, as ``begin`` does, in a folder where another process has begun.

        Raises:
            OutputError: it has begun with something else, or the folder is not writable.
        """
        if _content(self.folder / _NOTE) != self._made_from.encode():
            raise OutputError(f"{self.folder} is of another source by now.", "Give the same command again.")
        known = _sums_in(self._sums)
        self._sums = self.folder / f"{_SUMS}.{self.part.first:06d}"
        self._keep(known | _sums_in(self._sums))
        self._write_sums(known | _sums_in(self._sums))

    def path(self, index: int) -> Path:
        """Return where a segment goes, and note the checksums of those before it that have been finished meanwhile.

        Raises:
            OutputError: they cannot be noted.
        """
        try:
            self._note_finished()
        except OSError as error:
            raise cannot_write(self._sums, error) from error
        self._handed_out.append(index)
        return self._name(index)

    def finished(self) -> list[Path]:
        """Return the segments that ``begin`` has kept, and those that have been noted since, in order."""
        return [self._name(index) for index in sorted(self._finished)]

    def gaps(self) -> Iterator[Part]:
        """Yield what is missing, in order; where the part has no end, the last one has none."""
        first = self.part.first
        for index in [*sorted(self._finished), *([] if self.part.stop is None else [self.part.stop])]:
            if first < index:
                yield Part(first, index)
            first = index + 1
        if self.part.stop is None:
            yield Part(first)

    def paths(self, count: int) -> list[Path]:
        """Return where the first ``count`` segments are."""
        return [self._name(index) for index in range(count)]

    def clear(self) -> None:
        """Delete all segments, and nothing that someone else put there."""
        self._finished.clear()
        self._handed_out.clear()
        self._delete(kept=())
        for path in (self.folder / _NOTE, *self._lists()):
            path.unlink(missing_ok=True)

    def _note_finished(self) -> None:
        while self._handed_out and (path := self._name(self._handed_out[0])).is_file():
            with self._sums.open("a", encoding="ascii") as sums:
                sums.write(_line(path, sha256_of(path)))
            self._finished.add(self._handed_out.popleft())

    def _name(self, index: int) -> Path:
        return self.folder / f"{index:06d}.{self._suffix}"

    def _lists(self) -> list[Path]:
        return [path for path in self.folder.glob(f"{_SUMS}*") if not path.is_dir()]

    def _keep(self, sums: Mapping[str, str]) -> None:
        """Delete the segments of this part that are not as they were written."""
        self._finished = set(self._whole(sums))
        self._delete(kept=self.finished())

    def _whole(self, sums: Mapping[str, str]) -> Iterator[int]:
        """Yield the segments of this part that are as they were written."""
        for name, sha256 in sums.items():
            index = int(name[:6]) if name[:6].isdecimal() else -1
            path = self._name(index)
            if name == path.name and index in self.part and path.is_file() and sha256 == sha256_of(path):
                yield index

    def _write_sums(self, sums: Mapping[str, str]) -> None:
        lines = [_line(self.folder / _NOTE, self._note_sum)]
        write_text(self._sums, "".join([*lines, *(_line(path, sums[path.name]) for path in self.finished())]))

    def _delete(self, *, kept: Collection[Path]) -> None:
        number = "[0-9]" * 6
        for suffix in SEGMENT_SUFFIXES:
            # Hidden ones are of a run that was killed, maybe just as it made one: nobody else makes them now.
            for pattern in (f"{number}.{suffix}", f".{number}.*.{suffix}", f".{number}.*.{suffix}.new"):
                for path in self.folder.glob(pattern):
                    if path not in kept and int(path.name.lstrip(".")[:6]) in self.part and not path.is_dir():
                        path.unlink()


def _content(path: Path) -> bytes:
    """Return the bytes of a file; none where there is no file that can be read."""
    with suppress(OSError):
        return read_bytes(path)
    return b""


def _line(path: Path, sha256: str) -> str:
    return f"{sha256}  {path.name}\n"


def _sums_in(path: Path) -> dict[str, str]:
    """Return the checksum of each file that a list names; a damaged line costs its file."""
    lines = (line.split() for line in _content(path).decode("ascii", "replace").splitlines())
    return {parts[1]: parts[0] for parts in lines if len(parts) == 2}
