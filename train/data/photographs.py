"""Photographs to train on: the pixels of all of them in one array, in memory or mapped from a store on disk."""

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.train.degradation.settings import Degradation


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one image lies in ``Photographs.pixels``: its rows one after another from ``offset`` on."""

    offset: int
    """Index of its first pixel."""
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One photograph, with the low-resolution versions that its owner gave."""

    name: str
    """Its path below the folder that it came from."""
    sha256: str
    """Of its size and pixels (see ``content_sha256``), those of given LR versions included."""
    hr: Placed
    lr: tuple[tuple[int, Placed], ...] = ()
    """Reduction factor and LR image of exactly (height // factor) x (width // factor); what is missing is made."""

    def __post_init__(self) -> None:
        for factor, lr in self.lr:
            if factor < 2 or (lr.height, lr.width) != (self.hr.height // factor, self.hr.width // factor):
                raise ValueError(f"{self.name} has an LR image of {lr.width}x{lr.height} pixels for factor {factor}")


@dataclass(frozen=True, slots=True)
class Photographs:
    """A set of photographs, and what was left out of it."""

    name: str
    """Name of the folder or store they came from."""
    pixels: NDArray[np.uint8]
    """(pixels, 3) uint8 RGB; may be a read-only map of a file."""
    entries: tuple[Entry, ...]
    skipped: tuple[str, ...] = ()
    """One sentence for each file that was not used."""
    degradation: Degradation | None = None
    """How LR images are made of them; None: by bicubic reduction alone."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all images, so that a run is not resumed on others; next to it belongs ``lr_made_by``."""
        return hashlib.sha256("".join(entry.sha256 for entry in self.entries).encode()).hexdigest()

    @property
    def lr_made_by(self) -> str:
        """Say how LR images are made, but for those that have LR images of their own."""
        return f"a degradation ({self.degradation.words})" if self.degradation else "bicubic reduction"

    @property
    def described(self) -> dict[str, Any]:
        """What a result's provenance says of them."""
        about = {"folder": self.name, "images": len(self.entries), "sha256": self.fingerprint}
        return {**about, "degradation": asdict(self.degradation)} if self.degradation else about

    def degraded(self, degradation: Degradation | None) -> "Photographs":
        """Return the photographs with another way to make LR images of them.

        Raises:
            UsageError: some have LR images of their own.
        """
        if degradation and any(entry.lr for entry in self.entries):
            raise UsageError(
                f"{self.name} has LR images of its own, which no degradation makes.",
                "Leave out --degradation, or prepare the store with --lr made.",
            )
        return replace(self, degradation=degradation)

    def image(self, placed: Placed) -> NDArray[np.uint8]:
        """Return one image as (H, W, 3) uint8 RGB, without copying."""
        end = placed.offset + placed.height * placed.width
        return self.pixels[placed.offset : end].reshape(placed.height, placed.width, 3)

    def usable(self, scale: int, patch: int) -> "Photographs":
        """Leave out what has no room for one patch of ``patch`` x ``patch`` LR pixels.

        Raises:
            TrainingError: nothing is left.
        """
        large = [e for e in self.entries if min(e.hr.height, e.hr.width) // scale >= patch]
        small = [e for e in self.entries if min(e.hr.height, e.hr.width) // scale < patch]
        if not large:
            raise TrainingError(
                f"{self.name} holds no image that training can use.",
                f"Give photographs with at least {scale * patch} pixels on each side, or a smaller --patch.",
            )
        skipped = [f"{e.name} is too small: {e.hr.width}x{e.hr.height} pixels." for e in small]
        return replace(self, entries=tuple(large), skipped=(*self.skipped, *skipped))


def content_sha256(*images: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the sizes and pixels of images, each (H, W, 3) uint8."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
