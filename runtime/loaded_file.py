"""A file that is loaded more than once: every time it must be the same, or two networks would make one image."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from drc_deploy.errors import ArtefactError

Loaded = TypeVar("Loaded")


class LoadedFile:
    """A file as it was when this object was made.

    Its content is not read for that, which would take as long as loading it. Whatever replaces a file changes one of
    its place, size and time.

    Attributes:
        path: Absolute, so that it means the same file after ``os.chdir``.
    """

    def __init__(self, path: Path) -> None:
        """Remember what ``path``, which exists, is now."""
        self.path = path.absolute()
        self._identity = self._now()

    def load(self, open_file: Callable[[], Loaded]) -> Loaded:
        """Return what ``open_file`` makes of the file, which must find it as it was.

        Raises:
            ArtefactError: it is another one, or gone.
        """
        self._check()
        loaded = open_file()
        self._check()  # it may have been replaced while it was being read
        return loaded

    def _check(self) -> None:
        if self._now() != self._identity:
            raise ArtefactError(f"{self.path} was replaced while it was in use.", "Start again.")

    def _now(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
