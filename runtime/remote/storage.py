"""Files on storage elsewhere, by fsspec: what is there, fetched, and put whole or not at all.

This module imports fsspec, and is imported where a URL is given only. Backends find their credentials themselves. Their
errors name URLs with signatures, and so are never passed on, not even as a cause.
"""

import asyncio
import atexit
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fsspec import AbstractFileSystem
from fsspec.asyn import get_loop
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs
from fsspec.registry import available_protocols

from drc_deploy.errors import DrcDeployError, ImageError, InputError, MissingDependencyError, OutputError, UsageError
from drc_deploy.files import exists_already, hint_for
from drc_deploy.runtime.remote.url import Url, Version

_T = TypeVar("_T")

_WAITS_S = (1.0, 3.0)
"""Between three tries, where the backend does not try again itself."""
_SILENCE_S = 60.0
_LEAST_RATE = 1024
"""Bytes per second of a body after ``_SILENCE_S``: one that trickles would never end."""
_SMALL_BYTES, _SMALL_AT_ONCE = 4096, 2000
_BLOCK_BYTES = 8 << 20
_OF_OBJECTS = ("s3", "gs")
"""Storage where a key appears when all of it has arrived, and where one can be made only if it is not there. Their
backends try each request again, and each part of a large file alone."""
_TIMES = ("LastModified", "mtime", "updated", "Last-Modified", "created")
"""What backends call the time of the last change."""
_NEEDS_MORE = (TypeError, AttributeError, KeyError, ValueError, FileNotFoundError, IsADirectoryError)
"""Errors of a backend that is opened without all of its settings: an account, a repository, the file of an archive."""
_EXTRA = "'drc-deploy[remote]'"
_PACKAGES = {"s3": _EXTRA, "http": _EXTRA, "https": _EXTRA, "gs": "gcsfs"}
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)
_FINAL_NUMBERS = (*_FULL, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
_NO_RIGHTS = (401, 403, 407)
"""Statuses of HTTP."""
_RIGHTS = (
    "Look whether this storage finds its credentials in their usual place, such as the environment or ~/.aws, and what "
    "they allow."
)
_HTTP_RIGHTS = "Give a URL that needs no password. One with a signature may have expired."
_LATER = "Try again later; with --skip-existing the same command does what is missing."


def _options(url: Url) -> dict[str, Any]:
    if url.over_http:
        from aiohttp import ClientTimeout

        # Without a limit of the whole: a film takes hours, and silence or a trickle ends it.
        timeout = ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # proxies, and passwords of ~/.netrc
    if url.scheme == "s3":  # of parts of 50 MiB, ten at once would be held in memory
        return {"max_concurrency": 2, "config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 3}}}
    return {}


def _system(url: Url) -> AbstractFileSystem:
    """Return the file system of a URL; fsspec keeps those that are open.

    Raises:
        UsageError: there is none of this scheme, or it needs settings.
        MissingDependencyError: a package is missing.
        InputError: it does not answer.
    """
    if url.scheme not in available_protocols():
        raise UsageError(
            f"{url.scheme}:// is no storage that is known here.",
            "Known are s3, gs, http, https, file and others of fsspec.",
        )
    try:
        system, _ = url_to_fs(f"{url.scheme}://{url.authority}", use_listings_cache=False, **_options(url))
    except ImportError as error:
        package = _PACKAGES.get(url.scheme)
        hint = f"Install it: pip install {package}." if package else f"{str(error).rstrip('.')}."
        raise MissingDependencyError(f"{url.scheme}:// needs a package that is not installed.", hint) from error
    except _NEEDS_MORE:
        raise UsageError(
            f"{url.scheme}:// needs more than a URL.",
            f"Set FSSPEC_{url.scheme.upper()}_... in the environment, as fsspec documents it, or copy the files here.",
        ) from None
    except Exception as error:  # some connect at once
        _raise_explained(error, url, InputError, "opened")
    return system


def is_folder(url: Url) -> bool:
    """Return whether files lie below it; False where that cannot be found out.

    Raises:
        UsageError: there is no storage of this scheme, or it needs settings.
        MissingDependencyError: a package is missing.
        InputError: it does not answer.
    """
    system = _system(url)
    if not url.over_http:
        with suppress(Exception):  # reading or writing it will say why
            return _is_known_folder(system, url) or bool(system.isdir(url.full))
    return False


def _is_known_folder(system: AbstractFileSystem, url: Url) -> bool:
    """Return whether one name below it shows that it is one: for that alone, ``isdir`` of objects lists them all."""
    with suppress(Exception):  # who may list may not look, perhaps
        return url.scheme in _OF_OBJECTS and system.info(url.full)["type"] == "directory"
    return False


def check_bucket(url: Url) -> None:
    """Refuse a bucket that is known not to be there, before the work.

    Raises:
        OutputError: it is one.
    """
    if url.scheme in _OF_OBJECTS:
        try:
            _system(url).info(url.authority)
        except FileNotFoundError as error:
            _raise_explained(error, url, OutputError, "written")
        except Exception:  # it may be hidden from those who write to it, and writing will say why
            return


def is_file(url: Url) -> bool:
    """Return whether it is one file, such as one with a character of patterns in its name."""
    with suppress(Exception):  # searching it will say why
        return bool(_system(url).isfile(url.full))
    return False


def files_below(url: Url) -> list[Url]:
    """Return all files below a folder, each with its version.

    Raises:
        InputError: it cannot be listed.
    """
    system = _system(url)
    found = _tried(lambda: system.find(url.full, detail=True), url, InputError, "listed")
    return list(_below(system, url, found))


def files_in(url: Url) -> list[Url]:
    """Return the files in a folder, each with its version.

    Raises:
        OutputError: it cannot be listed.
    """
    system = _system(url)

    def look() -> list[dict[str, Any]]:
        with suppress(FileNotFoundError):
            return list(system.ls(url.full, detail=True))
        return []

    return list(_below(system, url, {info["name"]: info for info in _tried(look, url, OutputError, "listed")}))


def matches(folder: Url, pattern: str) -> list[Url]:
    """Return all files below ``folder`` that match a pattern, and those below the folders that do.

    Raises:
        InputError: it cannot be listed.
    """
    system, whole = _system(folder), f"{folder.full}/{pattern}"
    found = _tried(lambda: system.glob(whole, detail=True), folder, InputError, "listed")
    files = {url.rest: url for url in _below(system, folder, found)}
    for name, info in found.items():
        if info["type"] == "directory":
            files.update((url.rest, url) for url in files_below(_named(system, folder, name, info)))
    return list(files.values())


def _below(system: AbstractFileSystem, folder: Url, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Url]:
    return (_named(system, folder, name, info) for name, info in found.items() if info["type"] == "file")


def _named(system: AbstractFileSystem, folder: Url, name: str, info: Mapping[str, Any]) -> Url:
    """Return the URL of what a file system lists below ``folder`` by a name of its own; no slash in it is lost."""
    below = name.removeprefix(system._strip_protocol(folder.full))[1:]
    return Url(folder.scheme, f"{folder.rest}/{below}", version=_version(folder, info))


def _version(url: Url, info: Mapping[str, Any]) -> Version | None:
    size, when = info.get("size"), next((info[key] for key in _TIMES if info.get(key)), None)
    if isinstance(when, str):
        with suppress(ValueError):
            when = datetime.fromisoformat(when) if when[:4].isdigit() else parsedate_to_datetime(when)
    if isinstance(when, datetime):
        when = (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    if not isinstance(size, int) or not isinstance(when, int | float):
        return None
    if url.scheme in _OF_OBJECTS:  # HEAD has whole seconds, and listings of MinIO, Ceph and R2 have parts of them
        when = int(when)
    return size, round(when * 1e6) * 1000


def version_of(url: Url) -> Version | None:
    """Return the size of a file and the time of its last change; None where there is none, or nothing says it."""
    with suppress(Exception):  # reading it will say why
        return _version(url, _system(url).info(url.full))
    return None


def exists(url: Url) -> bool:
    """Return whether a file is there.

    Raises:
        OutputError: that cannot be found out.
    """
    system = _system(url)

    def look() -> bool:
        try:
            return bool(system.info(url.full))
        except FileNotFoundError:
            return False

    return _tried(look, url, OutputError, "looked for")


def beginning(url: Url, most: int) -> bytes:
    """Return the first bytes of a file; none where they cannot be read."""
    with suppress(Exception), _system(url).open(url.full, block_size=1 << 20) as stream:  # reading it will say why
        return bytes(stream.read(most))
    return b""


def fetch(url: Url, file: Path, most: int, *, dated: bool) -> Version | None:
    """Copy a file to a disk, with the time of its last change, and return its version where that is known.

    Args:
        url: the file.
        file: where to; it is not there, or may be written over.
        most: bytes that it may have; no more are read, whatever storage says of its length.
        dated: ask for its version also where nothing but a record needs it.

    Raises:
        ImageError: it is longer, cannot be read, or changes meanwhile.
    """
    system = _system(url)

    def get() -> Version | None:
        before = version_of(url) if dated or not url.over_http else None
        limit = _Limit(url, most)
        limit.set_size(before and before[0])  # before anything is under way
        system.get_file(url.full, str(file), callback=limit)
        after = before if url.over_http else version_of(url)  # parts of a large file are asked for one by one
        if before and (after not in (before, None) or before[0] != file.stat().st_size):
            raise ImageError(f"{url} changed while it was fetched.", "Upscale it again when it is complete.")
        return before

    version = _tried(get, url, ImageError, "read")
    if version:
        with suppress(OSError, OverflowError):  # of a time that no disk holds: what is made of it is done again
            os.utime(file, ns=(version[1], version[1]))
    return version


class _Limit(Callback):  # type: ignore[misc]  # published without types
    """Ends a copy that is longer than it may be, or that trickles."""

    def __init__(self, url: Url, most: int) -> None:
        super().__init__()
        self._url, self._most, self._begun, self._came = url, most, time.monotonic(), 0

    def set_size(self, size: int | None) -> None:
        if (size or 0) > self._most:
            raise ImageError(
                f"{self._url} is longer than the {self._most >> 20} MiB that it may have here.",
                "Free some space in TMPDIR, or raise --max-pixels for an image as large as that.",
            )

    def relative_update(self, inc: int = 1) -> None:
        self._came += inc
        self.set_size(self._came)
        took = time.monotonic() - self._begun
        if took > _SILENCE_S and self._came < _LEAST_RATE * took:
            raise TimeoutError


def put(file: Path, url: Url, *, replace: bool) -> None:
    """Copy a file from a disk: afterwards all of it is there, or nothing.

    Args:
        file: what to copy.
        url: where to.
        replace: whether it may take the place of one that is there.

    Raises:
        OutputError: it cannot be written, or is there and stays.
    """
    system = _system(url)

    def copy() -> None:
        if url.scheme in _OF_OBJECTS:
            try:
                system.put_file(str(file), url.full, mode="overwrite" if replace else "create")
            except FileExistsError:
                if not _is_copy(system, url, file):
                    raise
            return
        if system.isdir(url.full):  # a move would put the file into it
            raise OutputError(f"{url} is a folder.", "Give another name with -o.")
        temporary = url.with_name(f".{url.stem[:40]}.{os.urandom(4).hex()}{url.suffix}")
        try:
            system.put_file(str(file), temporary.full)
            if not replace and system.exists(url.full):
                raise FileExistsError
            system.mv(temporary.full, url.full)
        except BaseException:
            with suppress(Exception):  # it may not be there yet
                system.rm(temporary.full)
            raise

    _tried(copy, url, OutputError, "written")


def _is_copy(system: AbstractFileSystem, url: Url, file: Path) -> bool:
    """Return whether a key holds what a file does: the first try of a put may have arrived, and its answer not."""
    with suppress(Exception):  # who may not look cannot know
        if system.info(url.full)["size"] == file.stat().st_size:
            with system.open(url.full, block_size=_BLOCK_BYTES) as theirs, file.open("rb") as ours:
                blocks = iter(partial(ours.read, _BLOCK_BYTES), b"")
                return all(theirs.read(_BLOCK_BYTES) == block for block in blocks)
    return False


def put_bytes(content: bytes, url: Url) -> None:
    """Write a small file, where it can be written."""
    with suppress(Exception):
        system = _system(url)
        system.pipe_file(url.full, content)


def contents_below(folder: Url) -> Iterator[bytes]:
    """Yield what the small files in a folder hold, some at a time; nothing where it cannot be read."""
    with suppress(Exception):
        system = _system(folder)
        small = (name for name, info in system.find(folder.full, detail=True).items() if info["size"] <= _SMALL_BYTES)
        while names := list(itertools.islice(small, _SMALL_AT_ONCE)):
            yield from system.cat(names, on_error="omit").values()


def _tried(work: Callable[[], _T], url: Url, kind: type[DrcDeployError], done: str) -> _T:
    """Return the result of ``work``, which is tried three times in all where what went wrong may pass.

    Raises:
        DrcDeployError: of a ``kind``, that ``url`` cannot be ``done``.
    """
    for wait in (*(() if url.scheme in _OF_OBJECTS else _WAITS_S), None):
        try:
            return work()
        except DrcDeployError:
            raise
        except Exception as error:  # each backend has classes of its own
            if wait is None or _is_final(error):
                _raise_explained(error, url, kind, done)
            time.sleep(wait)
    raise AssertionError


def _is_final(error: Exception) -> bool:
    status = getattr(error, "status", None)  # of aiohttp
    if isinstance(status, int):
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, _FINAL) or getattr(error, "errno", None) in _FINAL_NUMBERS or _lacks_credentials(error)


def _lacks_credentials(error: Exception) -> bool:
    return "Credential" in type(error).__name__  # of botocore and Google's, which need not be installed


def _raise_explained(error: Exception, url: Url, kind: type[DrcDeployError], done: str) -> NoReturn:
    """Say what went wrong, without what the backend says where that may hold the whole URL."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        what = "its bucket or folder is not there" if kind is OutputError else "it is not there"
        raise kind(f"{url} cannot be {done}: {what}.", "Check its name, and that of its bucket.") from None
    if isinstance(error, FileExistsError):
        raise exists_already(url) from None
    if isinstance(error, PermissionError) or status in _NO_RIGHTS or _lacks_credentials(error):
        raise kind(f"{url} may not be {done} from here.", _HTTP_RIGHTS if url.over_http else _RIGHTS) from None
    hint = hint_for(error) if isinstance(error, OSError) else ""
    hint = hint or ("Check the URL." if _is_final(error) else _LATER)
    raise kind(f"{url} cannot be {done}: {_reason(error, url)}.", hint) from None


def _reason(error: Exception, url: Url) -> str:
    status = getattr(error, "status", None)
    if status is not None:
        return f"the server answers {status}"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "nothing, or next to nothing, came for a minute"
    if url.over_http or not str(error):
        return f"the connection failed ({type(error).__name__})"
    return str(getattr(error, "strerror", None) or error).rstrip(".")


async def _cancelled() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1)


@atexit.register
def _end_what_is_under_way() -> None:
    """End what a stopped command has left in the thread of fsspec, which would complain on standard error else."""
    with suppress(Exception):
        asyncio.run_coroutine_threadsafe(_cancelled(), get_loop()).result(timeout=2)
