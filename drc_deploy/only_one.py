"""One process at a time in a folder, or at a file, that several would spoil; or several that know of each other."""

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from drc_deploy.errors import OutputError

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system: nothing there shows a killed process as reliably
    fcntl = None  # type: ignore[assignment, unused-ignore]

_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
"""A pipe in the place of a file is not waited for."""
_MAKING, _MAKING_S = ".new", 5
"""How what is not locked yet is called, and how long its maker may take over that."""


@contextmanager
def only_one(path: Path, *, making: Path | None = None, shared: bool = False) -> Iterator[None]:
    """Keep other processes out of ``path`` while the block runs; one that is killed leaves nothing locked.

    The block may remove the path. Where the system or its file system has no locks, nobody is kept out.

    Args:
        path: a file or folder that is there.
        making: what is written meanwhile, for the message; None: ``path``.
        shared: let others in that say so, too.

    Raises:
        OutputError: another process is at ``path``, or has just removed it.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(path, _AT_ONCE)
    except FileNotFoundError as error:
        raise _taken(making or path, "") from error
    try:
        if _lock(handle, shared=shared) is False or not _is_there_still(handle, path):
            raise _taken(making or path, _holder(handle))
        yield
    finally:
        os.close(handle)


@contextmanager
def made_locked(path: Path, make: Callable[[Path], object]) -> Iterator[None]:
    """Make ``path`` and keep other processes out of it while the block runs: nobody ever meets it unlocked.

    Args:
        path: of a file or folder that nobody else makes.
        make: makes it, under another name that the lock is taken at.

    Raises:
        OSError: it cannot be made.
    """
    making = path.with_name(path.name + _MAKING)
    make(making)
    with ExitStack() as held:
        try:
            held.enter_context(only_one(making))
            making.rename(path)
        except BaseException:
            _remove(making)
            raise
        yield


@contextmanager
def file_made_locked(path: Path) -> Iterator[None]:
    """Make an empty file with the permissions of an ordinary new one, as ``made_locked`` does.

    Where Linux makes files without a name, it has none before it is locked: a kill at any moment leaves nothing
    that is not known as abandoned.

    Args:
        path: of a file that nobody else makes.

    Raises:
        OSError: it cannot be made.
    """
    with ExitStack() as held:
        try:
            _link_locked(path, held)
        except (AttributeError, OSError):  # another system, or a file system such as NFS; or what will be met again
            lock = held.enter_context(ExitStack())
            lock.enter_context(made_locked(path, _make_file))
            if not _can_be_written(path):
                lock.close()
        yield


@contextmanager
def folder_made_locked(parent: Path, prefix: str, mode: int = 0o777) -> Iterator[Path]:
    """Yield a new folder, which is gone after the block, as are those that killed processes have left.

    Only what has a name as it is made here is taken for such a one: other files and folders may begin alike.

    Args:
        parent: the folder that it lies in, where anybody may make what they like.
        prefix: of its name; 16 hexadecimal digits follow.
        mode: its permissions, as far as the mask of this process leaves them.

    Raises:
        OSError: it cannot be made.
    """
    name = re.compile(re.escape(prefix) + "[0-9a-f]{16}(" + re.escape(_MAKING) + ")?")
    remove_abandoned(path for path in parent.glob(f"{prefix}*") if name.fullmatch(path.name) and _is_own_folder(path))
    folder = parent / f"{prefix}{os.urandom(8).hex()}"
    with made_locked(folder, lambda path: path.mkdir(mode)):
        try:
            yield folder
        finally:
            for _ in range(2):  # a file on its way may have come during the first time
                shutil.rmtree(folder, ignore_errors=True)


def _is_own_folder(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()


def _link_locked(path: Path, held: ExitStack) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    held.callback(os.close, folder)
    handle = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o666, dir_fd=folder)
    held.callback(os.close, handle)
    _lock(handle)
    # Of two descriptors, since `os.link` leads to the file behind a link only then.
    os.link(f"/proc/self/fd/{handle}", path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)


def _can_be_written(path: Path) -> bool:
    """Return whether a locked file can be: on network drives of Windows (CIFS) a lock stops all other descriptors."""
    try:
        with open(path, "r+b", buffering=0) as stream:
            stream.write(b"0")
            stream.truncate(0)
    except PermissionError:
        return False
    return True


def _make_file(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove those of ``paths`` that were made locked by processes that have been killed."""
    for path in filter(_is_abandoned, paths):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # another process may be faster
            path.unlink()


def _is_abandoned(path: Path) -> bool:
    """Return whether whoever made ``path`` and kept others out has been killed; False where that cannot be known."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, _AT_ONCE)
    except OSError:
        return False
    try:
        young = time.time() - os.fstat(handle).st_mtime < _MAKING_S
        return not (path.name.endswith(_MAKING) and young) and _lock(handle) is True
    finally:
        os.close(handle)


def _lock(handle: int, *, shared: bool = False) -> bool | None:
    """Return whether the lock is had, or another process has it; None where there are no locks."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_there_still(handle: int, path: Path) -> bool:
    """Return whether others meet the lock: who removes the path may have done so just before it was taken."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    """Return which process has the lock, in brackets; nothing where Linux does not show it."""
    about = os.fstat(handle)
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return ""
    # proc_locks(5): number, kind, advisory or not, access, process, place. A process that cannot be seen here is 0.
    found = (lock[4] for lock in locks if lock[1] == "FLOCK" and lock[5] == place and int(lock[4]) > 0)
    return next((f" (process {number})" for number in found), "")


def _taken(path: Path, holder: str) -> OutputError:
    hint = "Wait until it has ended, or write to another place."
    return OutputError(f"another process is writing {path}{holder}.", hint)
