"""The folder in which a remote measurement works: one run at a time, and nothing is left of a temporary one.

A run holds a lock as long as it or a program that it started lives. A killed one cannot remove its folder: the next run
does, and knows by the lock that nobody is in it.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.errors import OutputError
from drc_deploy.files import cannot_write

RESULTS, SCRATCH = "out", "tmp"
"""Folders inside a workplace, of the report and of what libraries write for themselves."""
_PREFIX, _LOCK = "drc-deploy-remote-", "lock"


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder that is this run's alone."""

    folder: Path
    lock: int
    """File descriptor that holds the lock; programs that are given it hold it too."""


@contextlib.contextmanager
def workplace(kept: str | None) -> Iterator[Workplace]:
    """Make a temporary folder that is removed after the block, or use the folder ``kept``, where files stay.

    Raises:
        OutputError: it cannot be made, or another run is in it.
    """
    if kept is None:
        with _temporary_folder() as place:
            yield place
        return
    folder = Path(os.path.expanduser(kept)).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder / _LOCK)
    except OSError as error:
        raise cannot_write(folder, error) from error
    if lock is None:
        raise OutputError(
            f"another measurement is running in {folder}.", "Wait until it has ended, or give another --remote-dir."
        )
    try:
        _clear(folder)  # of a run that was killed
        yield Workplace(folder, lock)
    finally:
        _clear(folder)
        os.close(lock)


def _clear(folder: Path) -> None:
    for name in (RESULTS, SCRATCH):
        shutil.rmtree(folder / name, ignore_errors=True)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Workplace]:
    try:
        parent = Path(tempfile.gettempdir())
        _remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise OutputError(
            f"there is no place for temporary files: {error.strerror or error}.", "Name a folder with --remote-dir."
        ) from error
    lock = None
    try:
        lock = _new_lock(folder)
        yield Workplace(folder, lock)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _new_lock(folder: Path) -> int:
    """Make the lock of a new folder: it is locked before it has the name that others look for."""
    try:
        lock = _locked(folder / f".{_LOCK}")
        os.rename(folder / f".{_LOCK}", folder / _LOCK)
    except OSError as error:
        raise cannot_write(folder, error) from error
    assert lock is not None
    return lock


def _locked(path: Path) -> int | None:
    """Open a file and lock it; None when another process holds its lock."""
    import fcntl  # only POSIX systems have it, and only there this runs

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of this user's runs that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or just removed by its run
            if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not (folder / _LOCK).is_file():
                continue
            if (lock := _locked(folder / _LOCK)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
