"""What is recorded of the file of an engine: what it was when it was loaded, whatever becomes of it meanwhile."""

from pathlib import Path

from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of, version_of


class MeasuredFile:
    """A file that is about to be loaded.

    Attributes:
        size_bytes: Its size.
        sha256: Of its content.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ArtefactError: it is gone already, or cannot be read.
        """
        self._path = path
        try:
            self._version = version_of(path)
            self.size_bytes = path.stat().st_size
            self.sha256 = sha256_of(path)
        except OSError as error:
            hint = "Leave the file alone while it is measured."
            raise ArtefactError(f"cannot read {path}: {error.strerror}.", hint) from error

    @property
    def changed(self) -> bool:
        """Whether the file is gone, or has another content."""
        try:
            return version_of(self._path) != self._version and sha256_of(self._path) != self.sha256
        except OSError:
            return True
