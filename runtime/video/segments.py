"""The folder of a video's finished segments, and the note of what they were made from and by."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from drc_deploy.files import check_writable, write_text
from drc_deploy.only_one import only_one
from drc_deploy.runtime.video.encoders import SEGMENT_SUFFIXES

_log = logging.getLogger(__name__)

_NOTE = "made_from.json"


class Segments:
    """The folder of finished segments: a segment is whole or not there, and they are finished in order."""

    def __init__(self, folder: Path, suffix: str) -> None:
        """Take a folder that may not exist yet, and the suffix of the segments."""
        self._folder, self._suffix = folder, suffix

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
                    if os.listdir(self._folder) == [_NOTE]:  # nothing to go on after
                        (self._folder / _NOTE).unlink()
                    self._folder.rmdir()

    def begin(self, made_from: Mapping[str, object]) -> None:
        """Keep what was made from the same, and nothing else."""
        text = json.dumps(dict(made_from), sort_keys=True, indent=2)
        note = self._folder / _NOTE
        if not (note.is_file() and note.read_text() == text):
            self.clear()
            write_text(note, text)
        elif finished := self.finished():
            _log.warning("Going on after %d segments that are finished in %s.", len(finished), self._folder)

    def path(self, index: int) -> Path:
        """Return where a segment goes."""
        return self._folder / f"{index:06d}.{self._suffix}"

    def finished(self) -> list[Path]:
        """Return the finished segments."""
        segments: list[Path] = []
        while (path := self.path(len(segments))).is_file():
            segments.append(path)
        return segments

    def clear(self) -> None:
        """Delete all segments, and nothing that someone else put there."""
        number = "[0-9]" * 6
        for suffix in SEGMENT_SUFFIXES:
            for pattern in (f"{number}.{suffix}", f".{number}.*.{suffix}"):  # hidden ones are of a run that was killed
                for path in self._folder.glob(pattern):
                    path.unlink()
        (self._folder / _NOTE).unlink(missing_ok=True)
