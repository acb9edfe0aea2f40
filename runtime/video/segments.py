"""The folder of a video's finished segments, with their checksums and the note of what they were made from and by."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from drc_deploy.files import cannot_write, check_writable, sha256_of, write_text
from drc_deploy.input_files import read_bytes
from drc_deploy.only_one import only_one
from drc_deploy.runtime.video.encoders import SEGMENT_SUFFIXES

_log = logging.getLogger(__name__)

_NOTE = "made_from.json"
_SUMS = "SHA256SUMS"
"""One line for each finished segment, as sha256sum writes it."""


def segments_folder(target: Path, source: str) -> Path:
    """Return where the segments of ``target`` go: one place for any of its formats, unless another source is there."""
    folder = target.with_name(f"{target.stem}.segments")
    with suppress(ValueError, AttributeError):
        if json.loads(_content(folder / _NOTE) or b"{}").get("source", source) != source:
            return target.with_name(f"{target.name}.segments")
    return folder


class Segments:
    """The folder of finished segments: a segment is whole or not there, and they are finished in order.

    It lies on a disk for days, and others may write to it. What is not as it was written is made anew.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        """Take a folder that may not exist yet, and the suffix of the segments."""
        self._folder, self._suffix = folder, suffix
        self._finished: list[Path] = []

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other processes out of the folder, which is there while something is in it.

        Raises:
            OutputError: another one is in it, or it cannot be made.
        """
        check_writable(self._folder)
        with only_one(self._folder):
            try:
                yield
            finally:
                with suppress(OSError):
                    self._note_finished()
                with suppress(OSError):
                    if not self._finished:  # nothing to go on after
                        self.clear()
                    self._folder.rmdir()

    def begin(self, made_from: Mapping[str, object]) -> None:
        """Keep what was made from the same and is as it was written, and nothing else.

        Raises:
            OutputError: the folder is not writable, or holds a folder or a pipe where a file goes.
        """
        text = json.dumps(dict(made_from), sort_keys=True, indent=2)
        known = _sums_in(self._folder / _SUMS)
        sums = known if _content(self._folder / _NOTE) == text.encode() else {}
        if known and not sums:
            _log.warning("The unfinished work in %s is of another source, engine or options: begun anew.", self._folder)
        self._finished = list(self._whole(sums))
        self._delete(kept=self._finished)
        write_text(self._folder / _NOTE, text)
        write_text(self._folder / _SUMS, "".join(_line(path, sums[path.name]) for path in self._finished))
        if self._finished:
            count = len(self._finished) * made_from.get("segment_frames", 1)  # type: ignore[operator]
            _log.warning("Going on after %d pictures that are finished in %s.", count, self._folder)

    def path(self, index: int) -> Path:
        """Return where a segment goes, and note the checksums of those before it that have been finished meanwhile.

        Raises:
            OutputError: they cannot be noted.
        """
        try:
            self._note_finished()
        except OSError as error:
            raise cannot_write(self._folder / _SUMS, error) from error
        return self._name(index)

    def finished(self) -> list[Path]:
        """Return the segments that ``begin`` has kept, and those that have been noted since."""
        return list(self._finished)

    def clear(self) -> None:
        """Delete all segments, and nothing that someone else put there."""
        self._finished.clear()
        self._delete(kept=())
        for name in (_NOTE, _SUMS):
            (self._folder / name).unlink(missing_ok=True)

    def _note_finished(self) -> None:
        while (path := self._name(len(self._finished))).is_file():
            with (self._folder / _SUMS).open("a", encoding="ascii") as sums:
                sums.write(_line(path, sha256_of(path)))
            self._finished.append(path)

    def _name(self, index: int) -> Path:
        return self._folder / f"{index:06d}.{self._suffix}"

    def _whole(self, sums: Mapping[str, str]) -> Iterator[Path]:
        """Yield the segments, in order, up to the first that is missing or not as it was written."""
        for index in range(len(sums)):
            path = self._name(index)
            if not path.is_file() or sums.get(path.name) != sha256_of(path):
                return
            yield path

    def _delete(self, *, kept: Sequence[Path]) -> None:
        number = "[0-9]" * 6
        for suffix in SEGMENT_SUFFIXES:
            for pattern in (f"{number}.{suffix}", f".{number}.*.{suffix}"):  # hidden ones are of a run that was killed
                for path in self._folder.glob(pattern):
                    if path not in kept and not path.is_dir():
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
