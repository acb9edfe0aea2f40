"""Atomic writing of files, temporary folders, and content hashes."""

import errno
import hashlib
import itertools
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from drc_deploy.errors import OutputError
from drc_deploy.input_files import kind_of_mode, open_file, read_bytes
from drc_deploy.only_one import file_made_locked, folder_made_locked, only_one, remove_abandoned

_SCRATCH = "drc-deploy-"
_STEM_CHARACTERS = 40
_KEYS = re.compile(r"\.([0-9a-f]{8})[0-9a-f]{8}(?=\.|\Z)")
"""In names of temporary files: the number of the target, and a key."""
_MOST_FOLDERS = 1000
"""That are remembered."""
_STANDARD_OUTPUT = "Give another name; `upscale -o -` writes an image to standard output."
_MORE_SPACE = "Free some space there, or choose another disk."
_MORE_MEMORY = "Close other programs, or raise the limits of memory and processes (`ulimit -v`, `ulimit -u`)."
_MORE_FILES = "Raise the limit for open files (`ulimit -n`), or close other programs."
_HINTS = {
    errno.ENOSPC: _MORE_SPACE,
    getattr(errno, "EDQUOT", errno.ENOSPC): _MORE_SPACE,  # not on Windows
    errno.ENOMEM: _MORE_MEMORY,
    errno.EAGAIN: _MORE_MEMORY,
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.ENOENT: "Its folder was removed meanwhile: run the same command again.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.EFBIG: "Raise the limit for the size of a file (`ulimit -f`), or choose another disk.",
}


@contextmanager
def atomic_path(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to ``target`` that becomes it when the block ends without an error.

    The file is flushed to disk before that; on any error it is removed and ``target`` stays as it was. Temporary files
    of killed processes are removed too, where locks show that nobody writes them; see ``_left_next_to``.
    The temporary name keeps the suffix of ``target``, which some encoders go by.

    Args:
        target: the file.
        replace: whether it may take the place of one that is there by then.

    Raises:
        OutputError: the folder is not writable, the disk is full, or ``target`` is there and stays.
    """
    temporary = target.with_name(_temporary_name(target, os.urandom(4).hex()))
    new = _missing(target.parent)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name that the folder cannot hold, too, is found before the work, not at the rename.
        _check_replaceable(target)
        remove_abandoned(_left_next_to(target))
        with file_made_locked(temporary):
            yield temporary
            _publish(temporary, target, replace=replace)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        with suppress(OSError):  # gone already, or its folder is: what went wrong before is what counts
            temporary.unlink()
        _remove_empty(new)


def _check_replaceable(target: Path) -> None:
    """Refuse what a file would only take the name of, whoever reads a pipe or listens at a socket.

    Raises:
        OutputError: ``target`` is there and is no file.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if kind := kind_of_mode(mode):
        hint = "Move it away, or name another file." if stat.S_ISDIR(mode) else _STANDARD_OUTPUT
        raise OutputError(f"{target} is {kind}, and a file cannot take its place.", hint)
    _check_ours(target)


def _check_ours(target: Path) -> None:
    """Refuse a file of another user in a folder such as /tmp, before the work: only its owner may replace it.

    Raises:
        PermissionError: it is one.
    """
    folder, file = target.parent.stat(), target.lstat()
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, file.st_uid, folder.st_uid):
        raise PermissionError(errno.EPERM, "it belongs to another user, and so does its folder")


def _temporary_name(target: Path, key: str) -> str:
    """Return a hidden name that keeps the suffix of ``target``, and room for ``key`` in the longest that there is."""
    return f".{target.stem[:_STEM_CHARACTERS]}.{_number(target)}{key}{target.suffix}"


def _number(target: Path) -> str:
    """Return eight digits, other ones for nearly every other name."""
    return f"{zlib.crc32(os.fsencode(target.name)):08x}"


def _left_next_to(target: Path) -> list[Path]:
    """Return the temporary files of ``target`` that its folder held, of processes at work and of killed ones.

    The folder is read again when this process has begun as many files there as it held. So what reading takes is in
    proportion to the files that are written, in a folder of a million too. What a process that is killed meanwhile
    leaves there is removed by a later command, or after ``read_folders_again``.
    """
    name = re.compile(re.escape(_temporary_name(target, "KEY")).replace("KEY", "[0-9a-f]{8}") + r"(\.new)?")
    left = _listing_of(target.parent).temporary.get(_number(target), ())
    return [target.with_name(entry) for entry in left if name.fullmatch(entry)]


@dataclass(slots=True)
class _Listing:
    """What a folder held when it was read."""

    temporary: dict[str, list[str]] = field(default_factory=dict)
    """Number of a target -> names that may be those of its temporary files."""
    count: int = 0
    """Of all files."""
    begun: int = 0
    """Files that this process has begun there since."""


_listings: dict[tuple[int, int], _Listing] = {}
"""Device and inode of a folder -> what it held: a path may lead to another one later."""


def read_folders_again() -> None:
    """Have each folder read anew before a file is written there, as after other processes were killed."""
    _listings.clear()


def _listing_of(folder: Path) -> _Listing:
    about = folder.stat()
    place = about.st_dev, about.st_ino
    listing = _listings.get(place)
    if listing is None or listing.begun >= listing.count:
        if len(_listings) >= _MOST_FOLDERS:
            _listings.clear()
        listing = _listings[place] = _read_listing(folder)
    listing.begun += 1
    return listing


def _read_listing(folder: Path) -> _Listing:
    listing = _Listing()
    with suppress(OSError), os.scandir(folder) as entries:  # a folder may be writable and not readable
        for entry in entries:
            listing.count += 1
            for number in _KEYS.findall(entry.name) if entry.name.startswith(".") else ():
                listing.temporary.setdefault(number, []).append(entry.name)
    return listing


def _publish(temporary: Path, target: Path, *, replace: bool) -> None:
    """Make ``temporary`` durable and move it to ``target``.

    Raises:
        OutputError: ``target`` is there and stays.
    """
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    if not replace:
        try:
            os.link(temporary, target)  # fails where the name is taken
            return
        except OSError:
            if os.path.lexists(target):
                raise exists_already(target) from None
            # A file system without hard links: a file that appears at this moment goes unseen.
    temporary.replace(target)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder of this process in ``TMPDIR``, gone after the block; those of killed processes are removed.

    Raises:
        OutputError: it cannot be made.
    """
    with ExitStack() as held:
        try:
            folder = held.enter_context(folder_made_locked(Path(tempfile.gettempdir()), _SCRATCH, 0o700))
        except OSError as error:
            raise cannot_write("temporary files", error) from error
        yield folder


def exists_already(target: object) -> OutputError:
    """Return the error of a ``target``, a path or a URL, that exists already."""
    return OutputError(f"{target} exists already.", "Give --overwrite, --skip-existing, or another name with -o.")


def cannot_write(target: Path | str, error: OSError) -> OutputError:
    """Return the error of a ``target`` that cannot be written, with a hint for its cause."""
    reason = error.strerror or str(error)
    hint = hint_for(error) or "Choose a folder that you may write to."
    return OutputError(f"cannot write {target}: {reason}{_elsewhere(target, error)}.", hint)


def _elsewhere(target: Path | str, error: OSError) -> str:
    """Return the file that an error speaks of, in brackets, where it lies in another folder than ``target``."""
    name, folder = error.filename, os.path.dirname(os.path.abspath(target))
    if not isinstance(name, str | bytes) or os.path.abspath(os.fsdecode(name)).startswith(folder):
        return ""
    return f" ({os.fsdecode(name)})"


def hint_for(error: OSError) -> str:
    """Return what to do about an error of the system; nothing where that is not known."""
    return _HINTS.get(error.errno or 0, "")


def check_writable(folder: Path) -> None:
    """Make ``folder`` and find out, before a long run, whether files can be made in it; if not, it goes again.

    Raises:
        OutputError: they cannot.
    """
    new = _missing(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"cannot write {folder}: it is no folder.", _STANDARD_OUTPUT)
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _remove_empty(new)
        raise cannot_write(folder, error) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make ``folder``, which can be written to; after the block remove what was made and is still empty.

    Raises:
        OutputError: it cannot be made or written to.
    """
    new = _missing(folder)
    check_writable(folder)
    try:
        yield
    finally:
        _remove_empty(new)


def _missing(folder: Path) -> list[Path]:
    """Return ``folder`` and those above it that are not there, the deepest first."""
    return list(itertools.takewhile(lambda path: not os.path.lexists(path), (folder, *folder.parents)))


def _remove_empty(folders: Iterable[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # it holds something
            path.rmdir()


@contextmanager
def only_maker(output: Path) -> Iterator[None]:
    """Keep other processes from making ``output`` while the block runs, which may take hours and keep a state.

    A hidden file next to it is locked. A killed process may leave that file, but not the lock.

    Raises:
        OutputError: another process makes it, or its folder cannot be written to.
    """
    # The name is of a length that every folder can hold, and is another one for every output.
    lock = output.with_name(f".{output.stem[:_STEM_CHARACTERS]}.{_number(output)}.lock")
    with new_folder(output.parent), ExitStack() as held:
        try:
            lock.touch()
            held.enter_context(only_one(lock, making=output))
        except OSError as error:
            _remove_own(lock)
            raise cannot_write(output, error) from error
        try:
            yield
        finally:
            with suppress(OSError):  # the folder may be gone
                lock.unlink()


def _remove_own(lock: Path) -> None:
    """Remove a lock that this user has made and cannot open, as where new files get no permissions."""
    with suppress(OSError):
        if lock.stat().st_uid == os.geteuid():
            lock.unlink()


def write_bytes(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target`` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``target`` atomically; bytes of file names that are no text become escapes."""
    write_bytes(target, text.encode("utf-8", "backslashreplace"))


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several files as ``write_text`` does: none takes its place before there is room for all."""
    with ExitStack() as files:
        for target, text in texts.items():
            files.enter_context(atomic_path(target)).write_bytes(text.encode("utf-8", "backslashreplace"))


def write_sealed(target: Path, text: str) -> None:
    """Write ``text`` as ``write_text`` does, with its SHA-256 in a last line."""
    content = text.encode("utf-8", "backslashreplace")
    write_bytes(target, content + f"\n{hashlib.sha256(content).hexdigest()}\n".encode())


def read_sealed(path: Path) -> str | None:
    """Return what ``write_sealed`` has written; None where there is nothing, or where it was changed since."""
    try:
        content, _, sha256 = read_bytes(path).removesuffix(b"\n").rpartition(b"\n")
    except OSError:
        return None
    return content.decode() if hashlib.sha256(content).hexdigest().encode() == sha256 else None


def version_of(path: Path) -> tuple[int, int] | None:
    """Return a file's size in bytes and its time in nanoseconds, which change with it; None where no file is."""
    try:
        about = path.stat()
    except OSError:  # reading it will say why
        return None
    return (about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open_file(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
