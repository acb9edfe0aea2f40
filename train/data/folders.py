"""Photographs from a folder of images, decoded into memory, or from a prepared store."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drc_deploy.train.data.decoding import Images, read_all
from drc_deploy.train.data.layouts import find_sources
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.store import is_store, open_store


def open_photographs(path: Path) -> Photographs:
    """Open a store that ``drc-deploy data prepare`` made, or read a folder of images.

    Raises:
        ArtefactError: the store is damaged or of another version.
        TrainingError: the folder holds no readable image.
    """
    return open_store(path) if is_store(path) else read_folder(path)


def read_folder(folder: Path) -> Photographs:
    """Decode the photographs of ``folder`` into memory, for sets that fit there; LR images are left out.

    Raises:
        TrainingError: none is readable.
    """
    sources = find_sources([folder], paired=False)
    pixels: list[NDArray[np.uint8]] = []

    def keep(images: Images) -> None:
        pixels.append(images[0].reshape(-1, 3))

    read = read_all(sources, str(folder), keep, label="Reading photographs")
    return Photographs(folder.resolve().name, np.concatenate(pixels), tuple(read.entries), tuple(read.skipped))
