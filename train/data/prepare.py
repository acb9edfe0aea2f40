"""Making a store from folders of images: in a temporary folder, which takes the store's name when it is complete."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drc_deploy import records
from drc_deploy.errors import UsageError
from drc_deploy.files import write_text
from drc_deploy.train.data.decoding import Images, no_image_error, read_all
from drc_deploy.train.data.layouts import Sources, find_sources
from drc_deploy.train.data.store import (
    INDEX,
    PIXELS,
    STAMP,
    STORE_FORMAT,
    STORE_VERSION,
    StoreIndex,
    StoreRequest,
    has_index,
    open_store,
    read_index,
)
from drc_deploy.train.data.whole_folder import check_folder, put_in_place, temporary_folder


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a store is made."""

    lr: Literal["made", "paired"] = "made"
    """``paired`` stores the LR images of each data set with its photographs; else they are made when training."""
    min_side: int = 96
    """Smallest height and width of a photograph in pixels."""
    restart: bool = False
    """Replace the store that is there."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A finished store."""

    index: StoreIndex
    made: bool
    """False when it was there already."""


def prepare(folders: Sequence[Path], store: Path, options: PrepareOptions) -> Prepared:
    """Decode the photographs of ``folders`` into ``store``, which is there only when it is complete.

    The store depends on sources and options alone.

    Raises:
        TrainingError: no image is usable.
        UsageError: the store was made from other sources or options, or ``store`` is a folder for something else.
        ArtefactError: the store that is there is damaged or of another version.
        OutputError: the disk is full or not writable, or another process makes the same store.
    """
    sources = find_sources(folders, paired=options.lr == "paired")
    if not sources.found:
        raise no_image_error(", ".join(map(str, folders)), sources.skipped)
    request = _request(folders, sources, options)
    store = store.resolve()  # a link stays, and what it leads to is replaced
    if has_index(store) and not options.restart:
        return _found(store, request)
    with temporary_folder(store) as temporary:
        if has_index(store) and not options.restart:  # by another process, meanwhile
            return _found(store, request)
        _check_replaceable(store)
        index = _decode(sources, request, temporary)
        put_in_place(temporary, store)
    return Prepared(index, made=True)


def _found(store: Path, request: StoreRequest) -> Prepared:
    """Check a store that is there already, and return it."""
    index = read_index(store)
    _check_same(index.request, request, store)
    open_store(store)
    return Prepared(index, made=False)


def _check_replaceable(store: Path) -> None:
    """Check that ``store`` can be replaced and that nothing but a store would be lost."""
    check_folder(store)
    found = {path.name for path in store.iterdir()} if store.exists() else set()
    if foreign := sorted(found - {INDEX, PIXELS, STAMP} if has_index(store) else found):
        raise UsageError(f"{store} holds a file {foreign[0]} that belongs to no store.", "Choose another folder.")


def _decode(sources: Sources, request: StoreRequest, folder: Path) -> StoreIndex:
    """Write the pixels, then the index, to ``folder``."""
    digest, where = hashlib.sha256(), ", ".join(request.folders)
    with (folder / PIXELS).open("wb") as pixels:

        def keep(images: Images) -> None:
            for image in images:
                digest.update(image.data)
                pixels.write(image.data)

        read = read_all(sources, where, keep, label="Preparing photographs", min_side=request.min_side)
        pixels.flush()
        os.fsync(pixels.fileno())  # a power cut must not leave a whole index of half the pixels
    entries, skipped, size = tuple(read.entries), tuple(read.skipped), read.size * 3
    index = StoreIndex(STORE_FORMAT, STORE_VERSION, request, entries, skipped, digest.hexdigest(), size)
    write_text(folder / INDEX, records.to_json(index))
    return index


def _request(folders: Sequence[Path], sources: Sources, options: PrepareOptions) -> StoreRequest:
    files = []
    for source in sources.found:
        for path in (source.hr, *(lr for _, lr in source.lr)):
            status = path.stat()
            files.append((str(path.absolute()), status.st_size, status.st_mtime_ns))
    return StoreRequest(tuple(str(folder.resolve()) for folder in folders), options.lr, options.min_side, tuple(files))


def _check_same(before: StoreRequest, now: StoreRequest, store: Path) -> None:
    """Check that a store was asked to hold what it is asked to hold now."""
    differing = [
        f"{name} {getattr(before, field)} then, {getattr(now, field)} now"
        for name, field in (("folders", "folders"), ("--lr", "lr"), ("--min-side", "min_side"))
        if getattr(before, field) != getattr(now, field)
    ]
    old, new = ({path: rest for path, *rest in request.files} for request in (before, now))
    for kind, paths in (
        ("new", new.keys() - old.keys()),
        ("missing", old.keys() - new.keys()),
        ("changed", {path for path in new.keys() & old.keys() if new[path] != old[path]}),
    ):
        if paths:
            differing.append(f"{len(paths)} files {kind}, such as {min(paths)}")
    if differing:
        raise UsageError(
            f"{store} was made from other sources or options: {'; '.join(differing)}.",
            "Use the same ones, choose another folder, or add --restart to replace it.",
        )
