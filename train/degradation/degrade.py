"""LR images by a degradation, on the device that trains: the same bits on every device and in every run."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.errors import ImageError
from drc_deploy.metrics import UInt8Image
from drc_deploy.train.degradation.bicubic import CENTRE
from drc_deploy.train.degradation.kernels import Kernel, draw_kernel, with_reduction
from drc_deploy.train.degradation.settings import Degradation


@dataclass(frozen=True, slots=True)
class Chance:
    """What chance decides for one LR image."""

    kernel: Kernel | None
    """Of the blur (see ``draw_kernel``); None: there is none."""
    deviation: float
    """Standard deviation of the noise in grey levels."""
    noise: NDArray[np.float64] | None
    """(height, width, 3), added to the grey levels; None: there is none."""
    jpeg: int | None
    """Quality; None: the image is not compressed."""

    @classmethod
    def draw(cls, settings: Degradation, scale: int, key: Sequence[int], height: int, width: int) -> "Chance":
        """Return what ``key`` decides for an LR image of a size; the same on every machine, to rounding."""
        random = np.random.default_rng(key)
        kernel = draw_kernel(settings, scale, random) if settings.blurs else None
        deviation = random.uniform(*settings.noise)
        noise = deviation * random.standard_normal((height, width, 3)) if deviation else None
        quality = int(random.integers(settings.jpeg[0], settings.jpeg[1] + 1)) if settings.jpeg else None
        return cls(kernel, deviation, noise, quality)


def border_of(settings: Degradation, scale: int) -> int:
    """Return how many HR pixels around a region an LR image of it depends on."""
    blank = np.ones((settings.kernel_size, settings.kernel_size)) if settings.blurs else None
    kernel, first = with_reduction(blank, settings, scale)
    return max(-first, first + len(kernel) - scale)


def degrade(regions: Tensor, chances: Sequence[Chance], settings: Degradation, scale: int) -> Tensor:
    """Make LR images.

    Args:
        regions: (n, scale * height + 2 * border, scale * width + 2 * border, 3) float32, whole numbers in [0, 255],
            where border is that of ``border_of``.
        chances: One for each image, drawn for height and width.
        settings: What the chances were drawn for.
        scale: Reduction factor.

    Returns:
        (n, height, width, 3) float32, whole numbers in [0, 255], contiguous.
    """
    reducing = [with_reduction(chance.kernel, settings, scale) for chance in chances]
    kernels, first = np.stack([kernel for kernel, _ in reducing]), reducing[0][1]
    start = border_of(settings, scale) + first
    height, width = ((side - 2 * border_of(settings, scale)) // scale for side in regions.shape[1:3])
    weights = torch.from_numpy(kernels).to(regions.device)
    lr = _correlated(regions[:, start:, start:], weights, scale, height, width).add_(CENTRE)
    for image, chance in zip(lr, chances, strict=True):
        if chance.noise is not None:
            image.add_(torch.from_numpy(chance.noise).to(lr.device))
    lr = lr.add_(0.5).floor_().clamp_(0, 255).float().contiguous()
    for image, chance in zip(lr, chances, strict=True):
        if chance.jpeg is not None:
            image.copy_(_compressed(image, chance.jpeg))
    return lr


def _correlated(regions: Tensor, kernels: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Return (n, height, width, 3) float64: sums of a kernel times the values less ``CENTRE``.

    Row by row of the kernel, as products of matrices: convolutions may be computed by transforms, which round.
    """
    side, images = kernels.shape[-1], (regions.double() - CENTRE).permute(0, 3, 1, 2)
    windows = images.unfold(3, side, stride)[:, :, :, :width]
    total = torch.zeros(len(images), 3 * height * width, 1, dtype=torch.float64, device=images.device)
    for row in range(side):
        reached = windows[:, :, row : row + stride * (height - 1) + 1 : stride]
        total.baddbmm_(reached.reshape(len(images), -1, side), kernels[:, row, :, None])
    return total.view(-1, 3, height, width).permute(0, 2, 3, 1).contiguous()


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Return an (H, W, 3) image of whole numbers after JPEG compression."""
    bgr = image.cpu().numpy().astype(np.uint8)[:, :, ::-1]
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return torch.from_numpy(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)).to(image)


def degrade_image(hr: UInt8Image, settings: Degradation, scale: int, key: Sequence[int]) -> tuple[UInt8Image, Chance]:
    """Make the LR image of a whole HR image on the CPU; beyond the border the image is mirrored.

    Args:
        hr: (scale * height, scale * width, 3) uint8 RGB.
        settings: What is done.
        scale: Reduction factor.
        key: Numbers that decide what chance does.

    Returns:
        (height, width, 3) uint8 RGB, and what chance has decided.

    Raises:
        ImageError: the image is smaller than the blur kernel.
    """
    if settings.blurs and min(hr.shape[:2]) < settings.kernel_size:
        raise ImageError(
            f"an image of {hr.shape[1]}x{hr.shape[0]} pixels is smaller than the blur kernel, which has "
            f"{settings.kernel_size} on each side.",
            "Leave it out, or give a smaller kernel_size.",
        )
    chance = Chance.draw(settings, scale, key, hr.shape[0] // scale, hr.shape[1] // scale)
    border = border_of(settings, scale)
    bordered = np.pad(hr, ((border, border), (border, border), (0, 0)), "symmetric")
    (lr,) = degrade(torch.from_numpy(bordered[None].astype(np.float32)), [chance], settings, scale)
    return lr.numpy().astype(np.uint8), chance
