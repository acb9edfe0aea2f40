"""A store: the pixels of many photographs in one file that is mapped into memory, and an index of them.

STORE/index.json    what is where, what was left out, and the SHA-256 of the pixels
STORE/pixels.bin    uint8 RGB, images one after another, each row by row
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from drc_deploy import records
from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.files import write_text
from drc_deploy.input_files import MOST_BYTES, open_file, read_bytes
from drc_deploy.progress import progress
from drc_deploy.train.data.photographs import Entry, Photographs

INDEX, PIXELS, STAMP = "index.json", "pixels.bin", "verified.json"
STORE_FORMAT, STORE_VERSION = "drc-deploy photographs", 1
_BLOCK = 1 << 24
_BLOCK_BYTES = 512
"""Unit of ``st_blocks``."""
_INDEX_SHARE = 16
"""An index is shorter than the pixels by this, at least: an entry takes some hundred bytes."""
_ANEW = "Make the store again: `drc-deploy data prepare` with --restart."


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a store was asked to hold; the same request gives the same store."""

    folders: tuple[str, ...]
    """Absolute paths, in the order given."""
    lr: Literal["made", "paired"]
    """Whether LR images are made when training, or stored with their photographs."""
    min_side: int
    """Smallest height and width of a photograph in pixels."""
    files: tuple[tuple[str, int, int], ...]
    """Path, size in bytes and time of change in nanoseconds of each source file."""


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """The content of ``index.json``."""

    format: str
    version: int
    request: StoreRequest
    entries: tuple[Entry, ...]
    skipped: tuple[str, ...]
    """One sentence for each file that is not in the store."""
    sha256: str
    """Of ``pixels.bin``."""
    size: int
    """Of ``pixels.bin`` in bytes."""

    def __post_init__(self) -> None:
        end = 0
        for entry in self.entries:
            for placed in (entry.hr, *(lr for _, lr in entry.lr)):
                if placed.offset != end or min(placed.height, placed.width) < 1:
                    raise ValueError("the images do not lie one after another")
                end += placed.height * placed.width
        if self.size != end * 3 or not self.entries:
            raise ValueError(f"{len(self.entries)} images of {end} pixels in {self.size} bytes")


def is_store(folder: Path) -> bool:
    """Return whether ``folder`` is a store, whole or damaged."""
    return (folder / PIXELS).is_file() or has_index(folder)


def has_index(folder: Path) -> bool:
    """Return whether the ``index.json`` of ``folder`` begins as the index of a store does."""
    path = folder / INDEX
    if not path.is_file():
        return False
    with open_file(path) as stream:
        return STORE_FORMAT.encode() in stream.read(256)


def read_index(store: Path) -> StoreIndex:
    """Read and check the index of a store; the pixels are not looked at.

    Raises:
        ArtefactError: there is none, or it is damaged or of another version.
    """
    path = store / INDEX
    try:
        most = _most_index_bytes(store)
        data = records.parse_json_object(read_bytes(path, most), str(path), most)
    except FileNotFoundError as error:
        raise ArtefactError(f"{store} is a store without {INDEX}.", "Make it again, in another folder.") from error
    except ArtefactError as error:
        raise ArtefactError(error.message, _ANEW) from error
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    if data.get("format") != STORE_FORMAT:
        raise ArtefactError(f"{path} is not the index of a store.", "Give a store or a folder of images.")
    if data.get("version") != STORE_VERSION:
        raise ArtefactError(
            f"{store} is a store of version {data.get('version')!r}; this program reads {STORE_VERSION}.", _ANEW
        )
    return records.from_dict(StoreIndex, data, str(path))


def _most_index_bytes(store: Path) -> int:
    """Return how long the index may be."""
    try:
        on_disk = (store / PIXELS).stat().st_blocks * _BLOCK_BYTES  # a file may claim a length that it does not take
    except OSError:
        on_disk = 0
    return max(MOST_BYTES, on_disk // _INDEX_SHARE)


def open_store(store: Path) -> Photographs:
    """Map a store into memory, after checking its pixels against the SHA-256 in its index.

    The check of an unchanged file (same size and time of change) is made once and remembered in ``verified.json``,
    if that can be written.

    Raises:
        ArtefactError: the store is damaged or of another version.
    """
    index = read_index(store)
    path = store / PIXELS
    try:
        status = path.stat()
        if status.st_size != index.size:
            raise ArtefactError(f"{path} has {status.st_size} bytes instead of {index.size}.", _ANEW)
        stamp = {"sha256": index.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        if _read_stamp(store) != stamp:
            _verify(path, index)
            with suppress(OutputError):  # a store on a read-only disk is verified each time
                write_text(store / STAMP, json.dumps(stamp))
        pixels = np.memmap(path, np.uint8, mode="r").reshape(-1, 3)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.", _ANEW) from error
    return Photographs(store.resolve().name, pixels, index.entries, index.skipped)


def _verify(path: Path, index: StoreIndex) -> None:
    """Compare the SHA-256 of a file with the one in the index."""
    digest = hashlib.sha256()
    with path.open("rb") as stream, progress("Verifying the store (MiB)", -(-index.size >> 20)) as bar:
        while block := stream.read(_BLOCK):
            digest.update(block)
            bar.advance(-(-len(block) >> 20))
    if digest.hexdigest() != index.sha256:
        raise ArtefactError(f"{path} is damaged: its SHA-256 is not the one in {INDEX}.", _ANEW)


def _read_stamp(store: Path) -> dict[str, Any] | None:
    try:
        return records.parse_json_object(read_bytes(store / STAMP), STAMP)
    except (OSError, ArtefactError):
        return None
