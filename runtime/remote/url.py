"""Names of files on storage elsewhere, such as ``s3://bucket/in/a.jpg``: taken apart, put together, and safe to show.

Nothing here opens anything. Passwords are refused and queries, which may hold signatures, are never shown.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote
from urllib.request import url2pathname

from drc_deploy.errors import UsageError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]+)://(.*)", re.DOTALL)  # of two letters at least: `C:` is a disk
_QUERY = re.compile(r"\?[\w.~%+-]+=")
"""What a ``?`` of a pattern does not begin."""
_SAME = {"s3a": "s3", "gcs": "gs", "local": "file"}
"""Other names of a scheme, so that one file has one name."""
_OVER_HTTP = ("http", "https")
_WITHOUT_PORTS = ("s3", "gs")
_WITHOUT_HOSTS = ("memory",)

Version = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True, order=True)
class Url:
    """A file or folder on storage elsewhere. Where it is about names it can be used as a ``Path``."""

    scheme: str
    rest: str
    """All between ``://`` and the query; without a slash at the end, but for HTTP."""
    query: str = field(default="", repr=False)
    """Of HTTP only, and secret: it may be a signature."""
    version: Version | None = field(default=None, compare=False)
    """Of the file, where a listing has said it."""

    def __str__(self) -> str:
        """Return the name that may be shown."""
        return f"{self.scheme}://{self.rest}{'?...' if self.query else ''}"

    @property
    def full(self) -> str:
        """The name that storage is asked for. It is never shown or kept."""
        return f"{self.scheme}://{self.rest}{self.query and f'?{self.query}'}"

    @property
    def over_http(self) -> bool:
        """Whether it can be read only, and never listed."""
        return self.scheme in _OVER_HTTP

    @property
    def authority(self) -> str:
        """The bucket, or the machine."""
        return self.rest.partition("/")[0]

    @property
    def name(self) -> str:
        """The last part; empty for a bucket or a machine."""
        if "/" not in self.rest and self.scheme not in _WITHOUT_HOSTS:
            return ""
        last = self.rest.rpartition("/")[2]
        decoded = PurePosixPath(unquote(last)).name if self.over_http else last
        return decoded if decoded.isprintable() else last

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "Url":
        """The folder that it lies in."""
        return Url(self.scheme, self.rest.rpartition("/")[0])

    @property
    def parents(self) -> "tuple[Url, ...]":
        """All folders that it lies in, the nearest first."""
        parts = self.rest.split("/")
        return tuple(Url(self.scheme, "/".join(parts[:count])) for count in range(len(parts) - 1, 0, -1))

    def with_name(self, name: str) -> "Url":
        """Return what lies next to it."""
        return Url(self.scheme, f"{self.parent.rest}/{name}")

    def with_stem(self, stem: str) -> "Url":
        """Return what lies next to it, with the same suffix."""
        return self.with_name(stem + self.suffix)

    def is_file(self) -> bool:
        """Return that it is one: listings name folders apart."""
        return True

    def resolve(self) -> "Url":
        """Return itself: there are no links."""
        return self

    def relative_to(self, folder: "Url") -> PurePosixPath:
        """Return its name below ``folder``, which is never one that leads out of a folder on a disk."""
        return PurePosixPath(self.rest.removeprefix(folder.rest).lstrip("/"))

    def __truediv__(self, below: str | PurePath) -> "Url":
        """Return what lies below it."""
        return Url(self.scheme, f"{self.rest}/{PurePath(below).as_posix()}")


Place = Path | Url
"""Where a file is, or will be."""


def is_url(name: str) -> bool:
    """Return whether a name is a URL, right or wrong."""
    return _URL.fullmatch(name) is not None


def place_of(name: str) -> Place:
    """Return the file that a name means; a ``file://`` is a path.

    Raises:
        UsageError: it is a URL with a password, with another URL inside, without a bucket, or of a file on a machine;
            or one with a query that is not of HTTP.
    """
    found = _URL.fullmatch(name)
    if found is None:
        return Path(name)
    if "::" in name:
        raise UsageError("a URL holds `::`, which would join several.", "Give one URL, or rename the file.")
    scheme = _SAME.get(found[1].lower(), found[1].lower())
    if scheme == "file":
        return _path_of(found[2])
    url = _taken_apart(scheme, found[2])
    if _QUERY.search(url.rest):
        raise UsageError(
            f"the URL of {scheme}:// has a query, which may be a signature that others could read.",
            "Leave out all from `?` on: only http:// and https:// take it. In a pattern, `*` stands for `?` too.",
        )
    if _has_password(url):
        raise UsageError(
            f"the URL of {scheme}:// holds a user or a password, which others could read.",
            "Leave them out: they are taken from the environment, or from the files of that storage, such as ~/.aws.",
        )
    if ".." in url.rest.split("/"):
        raise UsageError(f"{url} holds `..`, which leads nowhere on storage.", "Name the folder itself.")
    if not url.authority and scheme not in _WITHOUT_HOSTS:
        raise UsageError(f"{scheme}:// says not where.", "Give it as in s3://bucket/folder/a.jpg.")
    return url


def _taken_apart(scheme: str, rest: str) -> Url:
    if scheme not in _OVER_HTTP:
        return Url(scheme, rest.rstrip("/"))
    rest, _, query = rest.partition("#")[0].partition("?")
    return Url(scheme, rest, query)


def _path_of(rest: str) -> Path:
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise UsageError(f"file://{rest} names the machine {host}.", "Begin with three slashes: file:///folder/a.png.")
    return Path(url2pathname(f"/{path}"))


def _has_password(url: Url) -> bool:
    """Return whether the URL holds what must not be shown, also where it is put together wrongly."""
    if url.scheme in _WITHOUT_HOSTS:
        return False
    user, at, host = url.authority.rpartition("@")
    if at and (":" in user or url.scheme in (*_OVER_HTTP, *_WITHOUT_PORTS)):
        return True
    _, colon, port = host.rpartition(":")
    if not colon or host.startswith(("arn:", "[")):  # the name of an access point, and an address of IPv6
        return False
    return url.scheme in _WITHOUT_PORTS or not port.isdecimal()  # a secret with a slash ends the authority early
