"""LR images by a degradation, on the device that trains.

Kernels and noise come from the host, and all sums are exact: with the same NumPy, CPUs and GPUs make the same pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.errors import ImageError
from drc_deploy.images.resize import bicubic_weights
from drc_deploy.metrics import UInt8Image
from drc_deploy.train.degradation.bicubic import CENTRE
from drc_deploy.train.degradation.kernels import Kernel, draw_kernel, with_reduction
from drc_deploy.train.degradation.settings import Degradation

STRIP_ROWS = 32
"""LR rows that are computed at a time."""


@dataclass(frozen=True, slots=True)
class RandomValues:
    """The random values of one LR image."""

    kernel: Kernel | None
    """Of the blur (see ``draw_kernel``); None: there is none."""
    deviation: float
    """Standard deviation of the noise in grey levels."""
    noise: NDArray[np.float64] | None
    """(height, width, 3), added to the grey levels; None: there is none."""
    jpeg: int | None
    """Quality; None: the image is not compressed."""

    @classmethod
    def of(cls, settings: Degradation, scale: int, key: Sequence[int], height: int, width: int) -> "RandomValues":
        """Return the values that ``key`` decides for an LR image of a size."""
        random = np.random.default_rng(key)
        kernel = draw_kernel(settings, scale, random) if settings.blurs else None
        deviation = random.uniform(*settings.noise)
        noise = deviation * random.standard_normal((height, width, 3)) if deviation else None
        quality = int(random.integers(settings.jpeg[0], settings.jpeg[1] + 1)) if settings.jpeg else None
        return cls(kernel, deviation, noise, quality)


def border_of(settings: Degradation, scale: int) -> int:
    """Return how many HR pixels around a region an LR image of it depends on."""
    half = settings.kernel_size // 2 if settings.blurs else 0
    if settings.reduction == "subsample":
        return half
    weights, begin = bicubic_weights(scale)
    return half + max(-begin, begin + len(weights) - scale)


def degrade(regions: Tensor, values: Sequence[RandomValues], settings: Degradation, scale: int) -> Tensor:
    """Make LR images.

    Args:
        regions: (n, scale * height + 2 * border, scale * width + 2 * border, 3) float32, whole numbers in [0, 255],
            where border is that of ``border_of``.
        values: One for each image, made for height and width.
        settings: What they were drawn for.
        scale: Reduction factor.

    Returns:
        (n, height, width, 3) float32, whole numbers in [0, 255], contiguous.
    """
    border = border_of(settings, scale)
    height, width = ((side - 2 * border) // scale for side in regions.shape[1:3])
    kernels, start = _kernels(values, settings, scale)
    lr = _correlated(regions[:, start:, start:], kernels.to(regions.device), scale, height, width)
    return _finished(lr, values)


def _kernels(values: Sequence[RandomValues], settings: Degradation, scale: int) -> tuple[Tensor, int]:
    """Return what blurs and reduces each image, (n, side, side) float64, and where regions with a border begin."""
    reducing = [with_reduction(one.kernel, settings, scale) for one in values]
    return torch.from_numpy(np.stack([kernel for kernel, _ in reducing])), border_of(settings, scale) + reducing[0][1]


def _finished(lr: Tensor, values: Sequence[RandomValues]) -> Tensor:
    """Add noise, round and compress; ``lr`` is written over."""
    for image, one in zip(lr, values, strict=True):
        if one.noise is not None:
            image.add_(torch.from_numpy(one.noise).to(lr.device))
    finished = lr.add_(0.5).floor_().clamp_(0, 255).float().contiguous()
    for image, one in zip(finished, values, strict=True):
        if one.jpeg is not None:
            image.copy_(_compressed(image, one.jpeg))
    return finished


def _correlated(regions: Tensor, kernels: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Return (n, height, width, 3) float64: sums of a kernel, which are 1, times the values.

    Row by row of the kernel, as products of matrices: convolutions may be computed by transforms, which round.
    """
    side, images = kernels.shape[-1], (regions.double() - CENTRE).permute(0, 3, 1, 2)
    windows = images.unfold(3, side, stride)[:, :, :, :width]
    total = torch.zeros(len(images), 3 * height * width, 1, dtype=torch.float64, device=images.device)
    for row in range(side):
        reached = windows[:, :, row : row + stride * (height - 1) + 1 : stride]
        total.baddbmm_(reached.reshape(len(images), -1, side), kernels[:, row, :, None])
    return total.add_(CENTRE).view(-1, 3, height, width).permute(0, 2, 3, 1).contiguous()


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Return an (H, W, 3) image of whole numbers after JPEG compression."""
    bgr = image.cpu().numpy().astype(np.uint8)[:, :, ::-1]
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return torch.from_numpy(decoded[:, :, ::-1].copy()).to(image)


def degrade_image(
    hr: UInt8Image, settings: Degradation, scale: int, key: Sequence[int], name: str = "an image"
) -> tuple[UInt8Image, RandomValues]:
    """Make the LR image of a whole HR image on the CPU; beyond the border the image is mirrored.

    Args:
        hr: (scale * height, scale * width, 3) uint8 RGB.
        settings: What is done.
        scale: Reduction factor.
        key: Numbers that decide the random values.
        name: Of the image, for an error.

    Returns:
        (height, width, 3) uint8 RGB, and the random values.

    Raises:
        ImageError: the image is smaller than the blur kernel.
    """
    if settings.blurs and min(hr.shape[:2]) < settings.kernel_size:
        raise ImageError(
            f"{name} of {hr.shape[1]}x{hr.shape[0]} pixels is smaller than the blur kernel, which has "
            f"{settings.kernel_size} on each side.",
            "Leave it out, or give a smaller kernel_size.",
        )
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    one, border = RandomValues.of(settings, scale, key, height, width), border_of(settings, scale)
    bordered = np.pad(hr, ((border, border), (border, border), (0, 0)), "symmetric")
    (kernels, start), strips = _kernels([one], settings, scale), []
    for top in range(0, height, STRIP_ROWS):  # float64 regions of a large image would take gigabytes
        bottom = min(height, top + STRIP_ROWS)
        region = torch.from_numpy(bordered[None, scale * top + start : scale * bottom + 2 * border, start:])
        strips.append(_correlated(region, kernels, scale, bottom - top, width))
    (lr,) = _finished(torch.cat(strips, dim=1), [one])
    return lr.numpy().astype(np.uint8), one
