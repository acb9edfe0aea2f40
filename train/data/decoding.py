"""Image files to arrays: many at a time, in order, without holding more than a few of them."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import ImageError, TrainingError
from drc_deploy.images.reading import read_rgb
from drc_deploy.progress import progress
from drc_deploy.train.data.layouts import PhotographFiles, Sources
from drc_deploy.train.data.photographs import Entry, Placed, content_sha256

Images: TypeAlias = tuple[NDArray[np.uint8], ...]
"""Of one photograph: HR, then LR, smallest factor first; each (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of one photograph."""

    source: PhotographFiles
    sha256: str
    """Of all images."""
    images: Images


class Catalogue:
    """The photographs taken so far, each content once, one after another in one array of pixels."""

    def __init__(self, skipped: Sequence[str]) -> None:
        self.entries: list[Entry] = []
        self.skipped = list(skipped)
        self.size = 0
        """Pixels of all entries, those of LR images included."""
        self._names: dict[str, str] = {}

    def add(self, photograph: Decoded) -> bool:
        """Place a photograph behind the others; return False for the same pixels once more, which are skipped."""
        source, sha256 = photograph.source, photograph.sha256
        if sha256 in self._names:
            self.skipped.append(f"{source.hr} has the same pixels as {self._names[sha256]}.")
            return False
        placed = []
        for image in photograph.images:
            placed.append(Placed(self.size, *image.shape[:2]))
            self.size += image.shape[0] * image.shape[1]
        factors = (factor for factor, _ in source.lr)
        self.entries.append(Entry(source.name, sha256, placed[0], tuple(zip(factors, placed[1:], strict=True))))
        self._names[sha256] = source.name
        return True


def read_all(
    sources: Sources,
    where: str,
    keep: Callable[[Images], None],
    *,
    label: str,
    min_side: int = 1,
) -> Catalogue:
    """Decode all sources and hand the images of each photograph that is taken to ``keep``, in order.

    Args:
        sources: the files.
        where: their folders, for the error.
        keep: stores them.
        label: of the progress bar.
        min_side: smallest height and width of an HR image in pixels.

    Raises:
        TrainingError: no photograph is usable.
    """
    catalogue = Catalogue(sources.skipped)
    with progress(label, len(sources.found)) as bar, closing(_decode_all(sources.found, min_side)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, str):
                catalogue.skipped.append(outcome)
            elif catalogue.add(outcome):
                keep(outcome.images)
            bar.advance()
    if not catalogue.entries:
        raise no_image_error(where, catalogue.skipped)
    return catalogue


def _decode_all(sources: Sequence[PhotographFiles], min_side: int) -> Generator[Decoded | str, None, None]:
    """Decode on all CPU cores and yield each in order: its pixels, or a sentence why there are none."""
    workers = os.cpu_count() or 1
    pending: deque[Future[Decoded | str]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        # `read_rgb` silences warnings for a while; in threads, one would switch them on again for another.
        warnings.simplefilter("ignore")
        try:
            for source in sources:
                pending.append(pool.submit(_decode, source, min_side))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(source: PhotographFiles, min_side: int) -> Decoded | str:
    try:
        hr = read_rgb(source.hr)
        height, width = hr.shape[:2]
        if min(height, width) < min_side:
            return f"{source.hr} is too small: {width}x{height} pixels."
        images = [hr]
        for factor, path in source.lr:
            images.append(read_rgb(path))
            found = images[-1].shape[:2]
            if found != (height // factor, width // factor):
                return f"{path} has {found[1]}x{found[0]} pixels, not {width // factor}x{height // factor}."
    except ImageError as error:
        return error.message
    return Decoded(source, content_sha256(*images), tuple(images))


def no_image_error(where: str, skipped: Sequence[str]) -> TrainingError:
    """Return the error for folders without a usable image; it names the first reason."""
    hint = f"Of {len(skipped)} that were left out, the first: {skipped[0]}" if skipped else "Give photographs."
    return TrainingError(f"{where} holds no image that training can use.", hint)
