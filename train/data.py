"""Training data: an image pyramid per photograph, and random aligned patches from it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.errors import ImageError, TrainingError
from drc_deploy.images import list_images, read_rgb
from drc_deploy.progress import progress
from drc_deploy.resize import resize_bicubic

Pyramid = list[NDArray[np.uint8]]
"""One photograph at scales 1, 2, ... s, coarse to fine: (H*2^k, W*2^k, 3) uint8 RGB."""


@dataclass(frozen=True)
class Photographs:
    """Pyramids of all usable photographs of a folder, and what was left out."""

    folder: str
    """Name of the folder they came from."""
    pyramids: list[Pyramid]
    skipped: list[str]
    """One sentence for each file that was not used."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels that training sees, so that a run is not resumed on other data."""
        digest = hashlib.sha256()
        for pyramid in self.pyramids:
            digest.update(repr(pyramid[-1].shape).encode())
            digest.update(pyramid[-1].tobytes())
        return digest.hexdigest()


def load_photographs(folder: Path, scale: int, patch: int) -> Photographs:
    """Read every image in ``folder`` and its LR versions at each power of two up to ``scale``.

    LR images are made from the HR image by antialiased bicubic resizing, as the benchmark sets were.

    Args:
        folder: Searched recursively.
        scale: Upscaling factor, a power of two.
        patch: Side of the LR patches that training will cut, in pixels; smaller images are left out.

    Raises:
        TrainingError: no image is large enough or none is readable.
    """
    paths = list_images(folder)
    pyramids: list[Pyramid] = []
    skipped: list[str] = []
    with progress("Reading photographs", len(paths)) as bar:
        for path in paths:
            try:
                pyramids.append(_pyramid(read_rgb(path), scale, patch))
            except ImageError as error:
                skipped.append(error.message)
            except _TooSmallError as error:
                skipped.append(f"{path} is too small: {error}.")
            bar.advance()
    if not pyramids:
        raise TrainingError(
            f"{folder} holds no image that training can use.",
            f"Give a folder of photographs with at least {scale * patch} pixels on each side.",
        )
    return Photographs(folder.resolve().name, pyramids, skipped)


class _TooSmallError(Exception):
    """The image has no room for one patch."""


def _pyramid(hr: NDArray[np.uint8], scale: int, patch: int) -> Pyramid:
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if min(height, width) < patch:
        raise _TooSmallError(f"{hr.shape[1]}x{hr.shape[0]} pixels")
    hr = hr[: height * scale, : width * scale]
    factors = [1 << k for k in range(scale.bit_length() - 1)]
    return [resize_bicubic(hr, height * f, width * f) for f in factors] + [hr]


class PatchSampler:
    """Random patches, the same for the same seed and step, so that a resumed run sees what it would have seen."""

    def __init__(self, pyramids: list[Pyramid], *, patch: int, batch: int, seed: int) -> None:
        self._pyramids, self._patch, self._batch, self._seed = pyramids, patch, batch, seed

    def sample(self, step: int) -> list[Tensor]:
        """Give the batch of one step, flipped and transposed at random.

        Returns:
            One (batch, 3, patch*2^k, patch*2^k) float32 tensor in [0, 255] per scale, coarse to fine.
        """
        random = np.random.default_rng((self._seed, step))
        patches = [self._cut(random) for _ in range(self._batch)]
        return [torch.from_numpy(np.stack(scale)).permute(0, 3, 1, 2).float() for scale in zip(*patches, strict=True)]

    def _cut(self, random: np.random.Generator) -> Pyramid:
        pyramid = self._pyramids[random.integers(len(self._pyramids))]
        height, width = pyramid[0].shape[:2]
        top = int(random.integers(height - self._patch + 1))
        left = int(random.integers(width - self._patch + 1))
        flip_rows, flip_columns, transpose = random.integers(2, size=3).astype(bool)
        result = []
        for level, image in enumerate(pyramid):
            y, x, side = top << level, left << level, self._patch << level
            cut = image[y : y + side, x : x + side]
            cut = cut[::-1] if flip_rows else cut
            cut = cut[:, ::-1] if flip_columns else cut
            result.append(cut.swapaxes(0, 1) if transpose else cut)
        return result
