"""Files that others may have written: read only where they are files, and no further than such files are long.

A pipe would be waited for, a device may never end, and 180 MB of JSON become 8 GB of Python's objects.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 32 << 20
"""Of a file of text or metadata: a report has 20 KB for each engine, and other files less."""
MISSING = "does not exist"
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_KINDS = (
    (stat.S_ISREG, ""),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def kind_of_mode(mode: int) -> str:
    """Return what is of a mode of ``os.stat``, such as ``a pipe``; nothing for a file."""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a device")


def no_file(path: Path) -> str:
    """Return what is at ``path`` in place of a file, such as ``a pipe``; nothing where a file is, or nothing."""
    try:
        return kind_of_mode(os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return ""


def why_not(path: Path) -> str:
    """Return why a file cannot be read, such as ``MISSING``, to stand behind its name; nothing where it can be."""
    if kind := no_file(path):
        return f"is {kind}, not a file"
    try:
        open_file(path).close()
    except ValueError:  # a name that no file can have
        return MISSING
    except OSError as error:
        return MISSING if error.errno in _NOT_THERE else f"cannot be read: {error.strerror}"
    return ""


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it.

    Raises:
        OSError: it cannot be opened, or is no file; ``strerror`` says why.
    """
    if kind := kind_of_mode(os.stat(path).st_mode):  # to open a device may do something
        raise _unfit(path, kind)
    stream = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (the caller closes it)
    if kind := kind_of_mode(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise _unfit(path, kind)
    return stream


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return what a file holds, ``most`` bytes at most.

    Raises:
        OSError: it cannot be read, is no file, or longer; ``strerror`` says why.
    """
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = b"" if size > most else stream.read(most + 1)  # it may grow, and files of the system say 0
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most >> 20} MiB, which no such file is", str(path))
    return content


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file of ``MOST_BYTES`` at most.

    Raises:
        OSError: as ``read_bytes``.
        UnicodeDecodeError: it is no text.
    """
    return read_bytes(path).decode(encoding)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that has come meanwhile is not waited for


def _unfit(path: Path, kind: str) -> OSError:
    return OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
