"""One process at a time in a folder that several would spoil."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drc_deploy.errors import OutputError

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system: nothing there tells of a killed process as reliably
    fcntl = None  # type: ignore[assignment, unused-ignore]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder`` while the block runs; one that is killed leaves nothing locked.

    The block may remove the folder. Where the system or its file system has no locks, nobody is kept out.

    Raises:
        OutputError: another process is in ``folder``, or has just removed it.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError as error:
        raise _taken(folder) from error
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _taken(folder) from error
    if not _is_there_still(handle, folder):
        raise _taken(folder)


def _is_there_still(handle: int, folder: Path) -> bool:
    """Tell whether others meet the lock: who removes the folder may have done so just before it was taken."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def _taken(folder: Path) -> OutputError:
    return OutputError(f"another process is writing {folder}.", "Wait until it has ended, or write to another place.")
