"""Images and videos in folders: which count, which folders are not searched, and what is left out by its kind."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from drc_deploy.errors import ImageError

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".mpo"),
)
"""Of files that are read."""
_IMAGES = "dds exr hdr ico pgm pnm ppm psd svg tga"
_RAW = "arw cr2 cr3 dng nef orf pef raf rw2 srw"
VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".flv", ".wmv", ".asf", ".vob", ".3gp", ".3g2", ".ogv"),
)
"""Of videos that are read."""
_SYNC, _M2TS_PREFIX_BYTES = b"G", 4
"""What packets of a transport stream begin with, after a time in those of cameras."""
_OTHERS = frozenset(f".{kind}" for kind in f"{_IMAGES} {_RAW}".split())
"""Suffixes of files that a user may expect among the results; a text or a sidecar is not missed."""
_SYSTEM_FOLDERS = frozenset(
    ("@eadir", "__macosx", "$recycle.bin", "system volume information", "#recycle", "#snapshot", "lost+found")
)
"""Folders that file systems and network drives make for themselves, in lower case: they hold copies and waste."""


class Named(Protocol):
    """A path, or the name of a file elsewhere."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""

    def is_file(self) -> bool:
        """Return whether it is one."""

    def __lt__(self, other: Any, /) -> bool: ...


File = TypeVar("File", bound=Named)


@dataclass(frozen=True, slots=True)
class Found(Generic[File]):
    """What a search came upon."""

    files: list[File]
    """Sorted."""
    others: Counter[str]
    """Suffix -> number of files that are pictures or videos of kinds that are not taken from a folder."""

    @classmethod
    def among(cls, paths: Iterable[File], *, videos: bool = False) -> "Found[File]":
        """Sort files by their suffixes: images, and ``videos`` too, are taken; hidden files count for nothing."""
        taken = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) if videos else IMAGE_SUFFIXES
        missed = _OTHERS.union(VIDEO_SUFFIXES).difference(taken)
        visible = [path for path in paths if not path.name.startswith(".")]
        others = Counter(path.suffix.lower() for path in visible if path.suffix.lower() in missed and path.is_file())
        files = (path for path in visible if path.suffix.lower() in taken and path.is_file())
        return cls(sorted(path for path in files if not _is_typescript(path)), others)

    def left_out(self, name: str) -> str:
        """Return a sentence that names what was left out of ``name``; empty where nothing was."""
        if not self.others:
            return ""
        count = self.others.total()
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(self.others.items()))
        return f"{name}: {count} {'files are' if count > 1 else 'file is'} left out: {kinds}."


def find_images(folder: Path) -> Found[Path]:
    """Search ``folder`` and what is below it for image files by suffix, without hidden files and folders.

    Raises:
        ImageError: one of the folders may not be read.
    """
    return Found.among(files_below(folder))


def list_images(folder: Path) -> list[Path]:
    """Return the images of ``find_images``.

    Raises:
        ImageError: one of the folders may not be read.
    """
    return find_images(folder).files


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files in ``folder`` and in the folders below it that are not hidden.

    Raises:
        ImageError: one of the folders may not be read.
    """
    for parent, _, names in walk(folder, onerror=_refuse_closed):
        yield from (Path(parent, name) for name in names)


def walk(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a tree as ``os.walk`` does, without hidden folders below ``folder`` and those of ``is_hidden``."""
    for parent, folders, names in os.walk(folder, onerror=onerror):
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield parent, folders, names


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is not for users: thumbnails, waste, caches of network drives."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _is_typescript(path: Named) -> bool:
    """Return whether a ``.ts`` is program text: a transport stream has packets that begin with 0x47 (ISO 13818-1)."""
    if path.suffix.lower() != ".ts" or not isinstance(path, Path):  # reading it will say why
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_M2TS_PREFIX_BYTES + 1)
    except OSError:  # reading it will say why
        return False
    return _SYNC not in (head[:1], head[_M2TS_PREFIX_BYTES:])


def is_video(path: Named) -> bool:
    """Return whether a file is a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_image_file(path: Path) -> bool:
    """Return whether a file has the suffix of an image and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _refuse_closed(error: OSError) -> None:
    """Refuse a folder whose images would silently be left out; one that is gone has none."""
    if isinstance(error, PermissionError):
        raise ImageError(f"the folder {error.filename} cannot be read.", "Check its permissions.") from error
