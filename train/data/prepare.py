"""Making a store from folders of images."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drc_deploy.errors import UsageError
from drc_deploy.files import check_writable
from drc_deploy.only_one import only_one
from drc_deploy.progress import progress
from drc_deploy.train.data.decoding import decode_all, no_image_error
from drc_deploy.train.data.layouts import PhotographFiles, Sources, find_sources
from drc_deploy.train.data.store import (
    INDEX,
    JOURNAL,
    PIXELS,
    STAMP,
    StoreIndex,
    StoreRequest,
    has_index,
    open_store,
    read_index,
)
from drc_deploy.train.data.unfinished_store import UnfinishedStore, check_same


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a store is made."""

    lr: Literal["made", "paired"] = "made"
    """``paired`` stores the LR images of each data set beside its photographs; else they are made when training."""
    min_side: int = 96
    """Smallest height and width of a photograph in pixels."""
    restart: bool = False
    """Throw away what is in the store."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A finished store."""

    index: StoreIndex
    made: bool
    """False when it was there already."""


def prepare(folders: Sequence[Path], store: Path, options: PrepareOptions) -> Prepared:
    """Decode the photographs of ``folders`` into ``store``, or go on where an interrupted run stopped.

    The store depends on sources and options alone, whether or not the work was interrupted.

    Raises:
        TrainingError: no image is usable.
        UsageError: the store was made or begun with other sources or options.
        ArtefactError: the store that is there is damaged or of another version.
        OutputError: the disk is full or not writable, or another process makes the same store; what is finished is
            kept, and the same call goes on.
    """
    sources = find_sources(folders, paired=options.lr == "paired")
    if not sources.found:
        raise no_image_error(", ".join(map(str, folders)), sources.skipped)
    request = _request(folders, sources, options)
    check_writable(store)
    with only_one(store):
        return _prepare(store, request, sources, options)


def _prepare(store: Path, request: StoreRequest, sources: Sources, options: PrepareOptions) -> Prepared:
    _check_ours(store)
    if options.restart:
        _discard(store)
    elif has_index(store):
        index = read_index(store)
        check_same(index.request, request, store)
        open_store(store)
        return Prepared(index, made=False)
    with UnfinishedStore(store, request) as unfinished:
        _decode_into(unfinished, sources.found, options.min_side)
        if unfinished.catalogue.entries:
            return Prepared(unfinished.finish(sources.skipped), made=True)
    _discard(store)
    raise no_image_error(", ".join(request.folders), (*sources.skipped, *unfinished.catalogue.skipped))


def _check_ours(store: Path) -> None:
    """Check that no file of another program would be overwritten.

    Raises:
        UsageError: one would.
    """
    for name, ours in ((INDEX, has_index(store)), (PIXELS, has_index(store) or (store / JOURNAL).exists())):
        if (store / name).exists() and not ours:
            raise UsageError(f"{store} holds a file {name} that belongs to no store.", "Choose another folder.")


def _decode_into(unfinished: UnfinishedStore, sources: Sequence[PhotographFiles], min_side: int) -> None:
    left = sources[unfinished.done :]
    with (
        progress("Preparing photographs", len(sources), done=unfinished.done) as bar,
        closing(decode_all(left, min_side)) as outcomes,
    ):
        for outcome in outcomes:
            unfinished.add(outcome)
            bar.advance()


def _request(folders: Sequence[Path], sources: Sources, options: PrepareOptions) -> StoreRequest:
    files = []
    for source in sources.found:
        for path in (source.hr, *(lr for _, lr in source.lr)):
            status = path.stat()
            files.append((str(path.absolute()), status.st_size, status.st_mtime_ns))
    return StoreRequest(tuple(str(folder.resolve()) for folder in folders), options.lr, options.min_side, tuple(files))


def _discard(store: Path) -> None:
    """Remove all files of a store, those last by which it is known."""
    for name in (STAMP, PIXELS, INDEX, JOURNAL):
        (store / name).unlink(missing_ok=True)
