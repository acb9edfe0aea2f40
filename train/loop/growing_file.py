"""A file that grows while a run lasts."""

from pathlib import Path

from drc_deploy.errors import OutputError


class GrowingFile:
    """Appends to a file; what is written is with the system at once, so that a killed process loses none of it.

    Raises:
        OutputError: in every method, when the folder is not writable or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab", buffering=0)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, data: bytes) -> None:
        """Append all of ``data``."""
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        self._stream.close()

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {self._path}: {error.strerror or error}.",
            "Make space, or the folder writable; the same command then goes on from the last saved state.",
        )
