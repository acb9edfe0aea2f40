"""The usual way to feed training, to compare with: a DataLoader whose workers decode PNG files for every patch."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from drc_deploy.images.resize import resize_bicubic
from drc_deploy.progress import progress
from drc_deploy.train.data.photographs import Photographs

MOST_PHOTOGRAPHS = 100
"""Files are written for at most so many, evenly spread: the time per item does not depend on their number."""
ENDLESS = 1 << 40
"""Items of one epoch."""


def write_pngs(photographs: Photographs, scale: int, folder: Path) -> list[list[Path]]:
    """Write photographs and their low-resolution versions as PNG files.

    Returns:
        Per photograph the files of each scale, coarse to fine.
    """
    chosen = photographs.entries[:: -(-len(photographs.entries) // MOST_PHOTOGRAPHS)]
    files = []
    with progress("Writing PNG files to compare with", len(chosen)) as bar:
        for number, entry in enumerate(chosen):
            height, width = entry.hr.height // scale, entry.hr.width // scale
            hr = photographs.image(entry.hr)[: height * scale, : width * scale]
            paths = []
            for level in range(scale.bit_length()):
                image = hr if 1 << level == scale else resize_bicubic(hr, height << level, width << level)
                paths.append(folder / f"{number}x{scale >> level}.png")
                paths[-1].write_bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].data)
            files.append(paths)
            bar.advance()
    return files


class PngPatches(Dataset[list[Tensor]]):
    """Random patches; each decodes the whole images that it is cut from."""

    def __init__(self, files: Sequence[Sequence[Path]], patch: int) -> None:
        self._files, self._patch = files, patch

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> list[Tensor]:
        """Return one patch as a (3, patch*2^k, patch*2^k) float32 tensor in [0, 255] per scale, coarse to fine."""
        images = [_decode(path) for path in self._files[index]]
        height, width = images[0].shape[:2]
        top, left = (int(torch.randint(side - self._patch + 1, ())) for side in (height, width))
        flips = torch.randint(2, (3,)).tolist()
        patches = []
        for level, image in enumerate(images):
            y, x, side = top << level, left << level, self._patch << level
            cut = image[y : y + side, x : x + side, ::-1]
            cut = cut[:: 1 - 2 * flips[0], :: 1 - 2 * flips[1]]
            cut = cut.swapaxes(0, 1) if flips[2] else cut
            patches.append(torch.from_numpy(np.ascontiguousarray(cut.transpose(2, 0, 1))).float())
        return patches


def _decode(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def png_batches(files: Sequence[Sequence[Path]], *, patch: int, batch: int, workers: int) -> Iterator[list[Tensor]]:
    """Return batches without end: one (batch, 3, patch*2^k, patch*2^k) float32 tensor per scale, on the CPU."""
    dataset = PngPatches(files, patch)
    order = RandomSampler(dataset, replacement=True, num_samples=ENDLESS)
    pinned = torch.cuda.is_available()
    return iter(DataLoader(dataset, batch, sampler=order, num_workers=workers, pin_memory=pinned))


def default_workers() -> int:
    """Return one worker per CPU core."""
    return os.cpu_count() or 1
