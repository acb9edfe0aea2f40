"""Validation chooses between checkpoints: its images must be neither a benchmark's nor trained on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from drc_deploy.errors import UsageError
from drc_deploy.images.reading import read_rgb
from drc_deploy.metrics import UInt8Image
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.benchmark_psnr import Benchmark

BENCHMARK_NAMES = frozenset({"set5", "set14", "b100", "bsd100", "bsds100", "urban100", "manga109"})
"""Folders of these names, in whatever case, hold the sets that papers report."""


def check_no_benchmark(folder: Path, images: Sequence[Path]) -> None:
    """Refuse a folder that is named like a benchmark set, or that has one inside.

    Args:
        folder: Of the validation images; ``Set5/HR`` and ``Set5/LRx4`` count as ``Set5``.
        images: The files in it and below.

    Raises:
        UsageError: it is one.
    """
    path = folder.resolve()
    suspects = [path, path.parent]
    suspects += [folder / below for image in images for below in image.relative_to(folder).parents if below.name]
    for suspect in suspects:
        if suspect.name.lower() in BENCHMARK_NAMES:
            raise UsageError(
                f"{suspect} is a benchmark set: checkpoints that are chosen on it cannot be reported on it.",
                "Validate on other photographs; --eval reports benchmark sets.",
            )


def check_held_out(
    images: Mapping[Path, UInt8Image], benchmarks: Sequence[Benchmark], photographs: Photographs, scale: int
) -> None:
    """Refuse images whose pixels are those of an image to report on or to train on.

    The up to ``scale`` - 1 rows and columns at the bottom and right that cropping takes away make no difference.

    Args:
        images: The validation images by their files, each (H, W, 3) uint8 RGB, cropped to a multiple of ``scale``.
        benchmarks: Sets whose PSNR is reported.
        photographs: Images to train on.
        scale: Upscaling factor.

    Raises:
        UsageError: one is the same.
    """
    # The first row tells nearly all images apart, and little has to be read for it from a store on disk.
    by_row = defaultdict(list)
    for path, image in images.items():
        by_row[image[0].tobytes()].append(path)
    for use, hr in _images_in_use(benchmarks, photographs):
        height, width = hr.shape[0] // scale * scale, hr.shape[1] // scale * scale
        for path in by_row.get(hr[0, :width].tobytes(), ()):
            if np.array_equal(hr[:height, :width], images[path]):
                raise UsageError(f"the validation image {path} is {use}.", "Leave it out of one of the two.")


def _images_in_use(benchmarks: Sequence[Benchmark], photographs: Photographs) -> Iterator[tuple[str, UInt8Image]]:
    """Return what each image is used for, and its pixels."""
    for name, pairs in benchmarks:
        for files in pairs:
            yield f"{files.name} of {name}, which --eval reports", read_rgb(files.hr_path)
    for entry in photographs.entries:
        yield f"{entry.name} of {photographs.name}, which is trained on", photographs.image(entry.hr)
