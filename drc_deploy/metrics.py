"""PSNR and SSIM on luma, as the super-resolution literature computes them.

Both images are 8-bit RGB, as a file holds them, and of the same size. A border of ``border`` pixels (by
convention the scale) is left out on each side. Luma is float64 and never rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

UInt8Image: TypeAlias = npt.NDArray[np.uint8]
Plane: TypeAlias = npt.NDArray[np.float64]

LUMA_WEIGHTS = np.array((65.481, 128.553, 24.966)) / 255
"""ITU-R BT.601 for 8-bit values, as MATLAB's ``rgb2ycbcr``: Y of RGB in [0, 255] is in [16, 235]."""
LUMA_OFFSET = 16.0
PEAK = 255.0

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_C1 = (0.01 * PEAK) ** 2
SSIM_C2 = (0.03 * PEAK) ** 2
"""Window and constants of Wang et al., "Image quality assessment", IEEE TIP 2004."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How close one image is to its reference."""

    psnr_y: float | None
    """PSNR of luma in dB; None when the images are identical, because the value is infinite."""
    ssim_y: float
    """Mean SSIM of luma, at most 1."""


def luma(image: UInt8Image) -> Plane:
    """Return the luma of an RGB image (H, W, 3) as (H, W) in [16, 235], not rounded."""
    weighted: Plane = image.astype(np.float64) @ LUMA_WEIGHTS
    return weighted + LUMA_OFFSET


def score(reference: UInt8Image, estimate: UInt8Image, border: int) -> Scores:
    """Return PSNR and SSIM of ``estimate`` (H, W, 3) against ``reference``.

    Raises:
        ValueError: the sizes differ, or nothing is left of the image inside the border.
    """
    planes = _inner_luma(reference, border), _inner_luma(estimate, border)
    if planes[0].shape != planes[1].shape:
        raise ValueError(f"sizes differ: {reference.shape[:2]} and {estimate.shape[:2]}")
    if min(planes[0].shape) < SSIM_WINDOW_PX:
        least = SSIM_WINDOW_PX + 2 * border
        raise ValueError(f"{reference.shape[:2]} is too small: SSIM needs {least} pixels on each side")
    return Scores(psnr(*planes), ssim(*planes))


def psnr_rgb(reference: UInt8Image, estimate: UInt8Image, border: int) -> float | None:
    """Return the PSNR over all channels of two images (H, W, 3) of one size in dB; None when they are identical.

    Blind super-resolution is often reported so.
    """
    inner = (slice(border, reference.shape[0] - border), slice(border, reference.shape[1] - border))
    return psnr(reference[inner].astype(np.float64), estimate[inner].astype(np.float64))


def _inner_luma(image: UInt8Image, border: int) -> Plane:
    height, width = image.shape[:2]
    return luma(image[border : height - border, border : width - border])


def psnr(reference: Plane, estimate: Plane) -> float | None:
    """Return the PSNR of two planes or images in dB for a peak of 255; None when they are identical."""
    error = float(np.mean((reference - estimate) ** 2))
    return 10.0 * float(np.log10(PEAK**2 / error)) if error > 0 else None


def ssim(reference: Plane, estimate: Plane) -> float:
    """Return the mean SSIM of two planes over every position where the whole window lies inside."""
    mean_x, mean_y = _window_mean(reference), _window_mean(estimate)
    variance_x = _window_mean(reference**2) - mean_x**2
    variance_y = _window_mean(estimate**2) - mean_y**2
    covariance = _window_mean(reference * estimate) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_x + variance_y + SSIM_C2)
    return float(np.mean(luminance * structure))


def _window_mean(plane: Plane) -> Plane:
    """Return the Gaussian-weighted mean around each pixel whose window lies inside ``plane``."""
    kernel = cv2.getGaussianKernel(SSIM_WINDOW_PX, SSIM_SIGMA_PX, cv2.CV_64F)
    margin = SSIM_WINDOW_PX // 2
    means: Plane = np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel), np.float64)
    return means[margin:-margin, margin:-margin]


def mean_psnr(values: Sequence[float | None]) -> float | None:
    """Return the mean PSNR in dB; None when one of the values is, because an infinite one makes it infinite."""
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite) if len(finite) == len(values) else None


def kernel_error(estimate: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Return the share of a blur kernel that an estimate puts elsewhere: half the sum of absolute differences.

    That is the total variation distance: 0 for equal kernels, 1 for such that have no pixel in common. Negative weights
    of an estimate count too, and can bring it above 1.
    """
    return float(np.abs(estimate.astype(np.float64) - truth).sum() / 2)
