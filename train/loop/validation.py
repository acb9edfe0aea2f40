"""PSNR and pictures of a network in training, on images by which its best checkpoint is chosen."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drc_deploy import metrics
from drc_deploy.errors import ImageError, InputError, UsageError
from drc_deploy.images.finding import IMAGE_SUFFIXES, list_images
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.metrics import SSIM_WINDOW_PX, UInt8Image
from drc_deploy.models.network import SRNetwork
from drc_deploy.pairs import HR_FOLDER, Pair, PairSource, Photograph, find_pairs
from drc_deploy.progress import progress
from drc_deploy.records import read_json_object
from drc_deploy.train.data.photographs import Photographs, content_sha256
from drc_deploy.train.degradation.degrade import degrade_image
from drc_deploy.train.loop.benchmark_psnr import Benchmark, evaluating, upscale_image

PICTURES = 4
"""How many images are shown; all are measured."""
PICTURE_SIDE_PX = 256
"""Largest side of what is shown of an HR image."""
DEGRADATION_SEED = 1
"""Decides the LR images that are made by a degradation, so that two runs choose by the same ones."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What was measured of one network."""

    psnr: float
    """Mean PSNR on Y in dB; infinite when every pixel is right."""
    pictures: tuple[tuple[str, UInt8Image], ...]
    """Name, and (H, 3W, 3) uint8 RGB: bicubic, network and HR side by side, each at most ``PICTURE_SIDE_PX`` wide."""


class Validator:
    """Validation images, held in memory: (1 + 1/scale^2) * 3 bytes for each pixel of HR.

    The 100 images of DIV2K's validation set take 0.9 GB at x4.
    """

    def __init__(self, pairs: Sequence[Pair], scale: int) -> None:
        self._pairs, self._scale = pairs, scale
        self.fingerprint = content_sha256(*(image for pair in pairs for image in (pair.hr, pair.lr)))
        """SHA-256 of all images, so that PSNR values of different sets are not compared."""
        self._crops = [_centre(pair.hr) for pair in pairs[:PICTURES]]
        self._bicubic = [
            resize_bicubic(pair.lr, *pair.hr.shape[:2])[crop]
            for pair, crop in zip(pairs, self._crops, strict=False)  # not all are shown
        ]

    @classmethod
    def find(
        cls, folder: Path, scale: int, *, benchmarks: Sequence[Benchmark], photographs: Photographs
    ) -> "Validator":
        """Read the images of ``folder``.

        Args:
            folder: Holds ``HR/`` and ``LRx<scale>/``; or photographs, in folders below too, whose LR images are made
                as in training.
            scale: Upscaling factor.
            benchmarks: Sets whose PSNR is reported: no image may be in both.
            photographs: What is trained on: no image may be in both.

        Raises:
            InputError: there are no images, an HR or LR image has no partner, or one is unreadable or too small.
            UsageError: the images are a benchmark's or trained on.
        """
        check_no_benchmark(folder, list_images(folder))
        sources = _find_sources(folder, scale)
        pairs = {}
        with progress("Reading validation images", len(sources)) as bar:
            for number, (path, source) in enumerate(sources.items(), start=1):
                pair = _load(path, source, scale)
                if photographs.degradation and isinstance(source, Photograph):
                    key = (DEGRADATION_SEED, number)
                    lr, _ = degrade_image(pair.hr, photographs.degradation, scale, key, str(path))
                    pair = replace(pair, lr=lr)
                pairs[path] = pair
                bar.advance()
        check_held_out({path: pair.hr for path, pair in pairs.items()}, benchmarks, photographs, scale)
        return cls(list(pairs.values()), scale)

    def measure(self, network: SRNetwork) -> Validation:
        """Upscale every image whole, as ``drc-deploy eval`` does; the network stays in the mode it is in."""
        values, pictures = [], []
        with evaluating(network):
            for index, pair in enumerate(self._pairs):
                sr = upscale_image(network, pair.lr)
                values.append(metrics.psnr(self._luma(pair.hr), self._luma(sr)))
                if index < len(self._crops):
                    crop = self._crops[index]
                    shown = np.concatenate((self._bicubic[index], sr[crop], pair.hr[crop]), axis=1)
                    pictures.append((pair.name, shown))
        mean = metrics.mean_psnr(values)
        return Validation(math.inf if mean is None else mean, tuple(pictures))

    def _luma(self, image: UInt8Image) -> metrics.Plane:
        return metrics.luma(image[self._scale : -self._scale, self._scale : -self._scale])


def _find_sources(folder: Path, scale: int) -> dict[Path, PairSource]:
    """Return the pairs by the files of their HR images."""
    if (folder / HR_FOLDER).is_dir():
        return {files.hr_path: files for files in find_pairs(folder, f"LRx{scale}", scale)}
    paths = list_images(folder)
    if not paths:
        raise InputError(f"{folder} holds no images.", f"Known are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return {path: Photograph(path) for path in paths}


def _load(path: Path, source: PairSource, scale: int) -> Pair:
    pair = source.load(scale)
    least = SSIM_WINDOW_PX + 2 * scale  # as `drc-deploy eval` needs, so that it can measure what was chosen
    if min(pair.hr.shape[:2]) < least:
        raise ImageError(
            f"{path} has {pair.hr.shape[1]}x{pair.hr.shape[0]} pixels that can be measured: too few to validate on.",
            f"Leave it out, or give one of at least {least} pixels on each side.",
        )
    return pair


def _centre(hr: UInt8Image) -> tuple[slice, slice]:
    """Return the rows and columns in the middle of an image that are shown."""
    height, width = hr.shape[:2]
    top, left = max(0, height - PICTURE_SIDE_PX) // 2, max(0, width - PICTURE_SIDE_PX) // 2
    return slice(top, top + PICTURE_SIDE_PX), slice(left, left + PICTURE_SIDE_PX)


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
    for made in suspects[:2]:
        _check_not_made_of_benchmark(made)
    for suspect in suspects:
        if suspect.name.lower() in BENCHMARK_NAMES:
            raise UsageError(
                f"{suspect} is a benchmark set: checkpoints that are chosen on it cannot be reported on it.",
                "Validate on other photographs; --eval reports benchmark sets.",
            )


def _check_not_made_of_benchmark(folder: Path) -> None:
    for record in folder.glob("degradation_x*.json"):
        source = read_json_object(record).get("source")
        if isinstance(source, str) and source.lower() in BENCHMARK_NAMES:
            raise UsageError(
                f"{folder} was made of {source}: checkpoints that are chosen on it cannot be reported on it.",
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
    # The first row differs between nearly all images, and little has to be read for it from a store on disk.
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
