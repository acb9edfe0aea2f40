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

    Where the system or its file system has no locks, nobody is kept out.

    Raises:
        OutputError: another process is in ``folder``.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutputError(
                    f"another process is writing {folder}.", "Wait until it has ended, or choose another folder."
                ) from error
        yield
    finally:
        os.close(handle)
