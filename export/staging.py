"""Several files that appear together or not at all."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drc_deploy.files import cannot_write
from drc_deploy.only_one import folder_made_locked

_PREFIX = ".export-"


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Return an empty folder inside ``target``, so that files can be renamed from it; it is removed in the end.

    So are those that exports which were killed have left there.

    Raises:
        OutputError: ``target`` cannot be written to, or the disk is full.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with folder_made_locked(target, _PREFIX) as folder:
            yield folder
    except OSError as error:
        raise cannot_write(target, error) from error


def move_into_place(files: Sequence[Path], target: Path) -> list[Path]:
    """Move finished files from the staging folder to ``target``, replacing those of the same name, in this order."""
    for path in files:
        # Durable before any is moved: a full disk shows here, while the old files are still in place.
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    return [path.replace(target / path.name) for path in files]
