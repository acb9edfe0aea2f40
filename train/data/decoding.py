"""Image files to arrays: many at a time, in order, without holding more than a few of them."""

import os
import warnings
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import ImageError, TrainingError
from drc_deploy.images.reading import read_rgb
from drc_deploy.train.data.layouts import PhotographFiles
from drc_deploy.train.data.photographs import Entry, Placed, content_sha256


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of one photograph; every image is (H, W, 3) uint8 RGB."""

    name: str
    path: Path
    sha256: str
    """Of HR and LR images, smallest factor first."""
    hr: NDArray[np.uint8]
    lr: Mapping[int, NDArray[np.uint8]]
    """Reduction factor to LR image."""

    def images(self) -> tuple[NDArray[np.uint8], ...]:
        """Return HR and LR images in the order in which they are stored."""
        return (self.hr, *self.lr.values())


class Catalogue:
    """The photographs taken so far, each content once, one after another in one array of pixels."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.skipped: list[str] = []
        self.size = 0
        """Pixels of all entries, those of LR images included."""
        self._names: dict[str, str] = {}

    def add(self, outcome: Decoded | str) -> Entry | None:
        """Place a photograph behind the others; a sentence, or the same pixels once more, goes to ``skipped``."""
        if isinstance(outcome, str):
            self.skipped.append(outcome)
            return None
        if outcome.sha256 in self._names:
            self.skipped.append(f"{outcome.path} has the same pixels as {self._names[outcome.sha256]}.")
            return None
        placed, offset = [], self.size
        for image in outcome.images():
            placed.append(Placed(offset, *image.shape[:2]))
            offset += image.shape[0] * image.shape[1]
        entry = Entry(outcome.name, outcome.sha256, placed[0], dict(zip(outcome.lr, placed[1:], strict=True)))
        self.entries.append(entry)
        self._names[entry.sha256] = entry.name
        self.size = offset
        return entry


def decode_all(sources: Sequence[PhotographFiles], min_side: int = 1) -> Generator[Decoded | str, None, None]:
    """Decode ``sources`` on all CPU cores and give each in order: its pixels, or a sentence why there are none.

    Close the iterator when leaving it early (``contextlib.closing``).

    Args:
        sources: The files.
        min_side: Smallest height and width of an HR image in pixels.
    """
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
        lr = {}
        for factor, path in source.lr:
            lr[factor] = read_rgb(path)
            found = lr[factor].shape[:2]
            if found != (height // factor, width // factor):
                return f"{path} has {found[1]}x{found[0]} pixels, not {width // factor}x{height // factor}."
    except ImageError as error:
        return error.message
    return Decoded(source.name, source.hr, content_sha256(hr, *lr.values()), hr, lr)


def no_image_error(where: str, skipped: Sequence[str]) -> TrainingError:
    """Return the error for folders without a usable image; it names the first reason."""
    hint = f"Of {len(skipped)} that were left out, the first: {skipped[0]}" if skipped else "Give photographs."
    return TrainingError(f"{where} holds no image that training can use.", hint)
