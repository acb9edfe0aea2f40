"""PSNR and pictures of a network in training, on images by which its best checkpoint is chosen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drc_deploy import metrics
from drc_deploy.errors import ImageError, InputError
from drc_deploy.images.reading import IMAGE_SUFFIXES, list_images
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.metrics import SSIM_WINDOW_PX, UInt8Image
from drc_deploy.models.network import SRNetwork
from drc_deploy.pairs import HR_FOLDER, Pair, PairSource, Photograph, find_pairs
from drc_deploy.progress import progress
from drc_deploy.train.data.photographs import Photographs, content_sha256
from drc_deploy.train.loop.benchmark_psnr import Benchmark, evaluating, upscale_image
from drc_deploy.train.loop.held_out import check_held_out, check_no_benchmark

PICTURES = 4
"""How many images are shown; all are measured."""
PICTURE_SIDE_PX = 256
"""Largest side of what is shown of an HR image."""


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
            folder: Holds ``HR/`` and ``LRx<scale>/``; or photographs, in folders below too, which are reduced by
                bicubic.
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
            for path, source in sources.items():
                pairs[path] = _load(path, source, scale)
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
    """Return the pairs by the files of their HR images.

    Raises:
        InputError: there are none, or one is not complete.
    """
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
