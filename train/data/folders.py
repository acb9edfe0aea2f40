"""Photographs from a folder of images, decoded into memory, or from a prepared store."""

from contextlib import closing
from pathlib import Path

import numpy as np

from drc_deploy.progress import progress
from drc_deploy.train.data.decoding import Catalogue, Decoded, decode_all, no_image_error
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
    catalogue, images = Catalogue(), []
    with progress("Reading photographs", len(sources.found)) as bar, closing(decode_all(sources.found)) as outcomes:
        for outcome in outcomes:
            if catalogue.add(outcome) and isinstance(outcome, Decoded):
                images.append(outcome.hr.reshape(-1, 3))
            bar.advance()
    skipped = (*sources.skipped, *catalogue.skipped)
    if not images:
        raise no_image_error(str(folder), skipped)
    return Photographs(folder.resolve().name, np.concatenate(images), tuple(catalogue.entries), skipped)
