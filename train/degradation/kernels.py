"""Random blur kernels, and the single kernel that does a blur and the reduction after it.

Kernels are computed on the host, with NumPy: they are few numbers, and a GPU's exponential differs from a CPU's.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drc_deploy.images.resize import bicubic_weights
from drc_deploy.train.degradation.settings import Degradation

UNIT = 1 << 40
"""Weights are whole multiples of 1/UNIT. Of 8-bit values all sums are then exact in float64, in any order."""
_MOST_MOVES = 100
_NEAR = 1e-9
"""Distance between two centres in pixels at which they are the same."""

Kernel = NDArray[np.float64]


def draw_kernel(settings: Degradation, scale: int, random: np.random.Generator) -> Kernel:
    """Draw one blur kernel for correlation with the HR image.

    Returns:
        (kernel_size, kernel_size) float64, not negative, of sum 1. The middle weight belongs to the HR pixel that is
        blurred. For ``subsample`` that pixel is the first of ``scale`` x ``scale``, and the centre of mass lies over
        the middle of these.

    Raises:
        ValueError: the settings have no blur.
    """
    low, high = settings.sigma or settings.variance or _no_blur()
    first, second, alike, angle = random.uniform(low, high), random.uniform(low, high), random.random(), random.random()
    widths = np.array([first, first if alike < settings.isotropic else second])
    turn = _rotation(angle * 2 * np.pi)
    covariance = turn @ np.diag(widths**2 if settings.sigma else widths) @ turn.T
    size = settings.kernel_size
    factors = 1 + random.uniform(*settings.disturbance, (size, size))
    middle = np.full(2, size // 2, np.float64)
    if settings.reduction == "bicubic":
        return _gaussian(covariance, middle, factors)
    return _centred(covariance, middle + (scale - 1) / 2, factors)


def _no_blur() -> tuple[float, float]:
    raise ValueError("the degradation has no blur")


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _gaussian(covariance: NDArray[np.float64], mean: NDArray[np.float64], factors: Kernel) -> Kernel:
    """Return a Gaussian around ``mean`` (row, column), multiplied by ``factors``, of sum 1."""
    offsets = np.moveaxis(np.indices(factors.shape), 0, -1) - mean
    exponents = np.einsum("...i,ij,...j", offsets, np.linalg.inv(covariance), offsets)
    weights = np.exp(-0.5 * (exponents - exponents.min())) * factors
    kernel: Kernel = weights / weights.sum()
    return kernel


def _centred(covariance: NDArray[np.float64], centre: NDArray[np.float64], factors: Kernel) -> Kernel:
    """Return such a kernel whose centre of mass is ``centre``.

    DIV2KRK's generator moves finished kernels by splines. Here the Gaussian moves below its disturbance, which leaves
    each weight what it is.
    """
    mean = centre
    for _ in range(_MOST_MOVES):
        kernel = _gaussian(covariance, mean, factors)
        distance = centre - centre_of_mass(kernel)
        if np.abs(distance).max() < _NEAR:
            return kernel
        mean = mean + distance
    raise ValueError("the kernel cannot be centred")  # settings that ``Degradation.check_scale`` lets pass can


def centre_of_mass(kernel: Kernel) -> NDArray[np.float64]:
    """Return the mean row and column of a kernel, counted from its first."""
    moments = (np.indices(kernel.shape) * kernel).sum(axis=(1, 2))
    centre: NDArray[np.float64] = moments / kernel.sum()
    return centre


def with_reduction(kernel: Kernel | None, settings: Degradation, scale: int) -> tuple[Kernel, int]:
    """Return one kernel that blurs and reduces, and where it begins.

    LR pixel (i, j) is the sum of the result times the HR pixels from row ``scale * i + first`` and column
    ``scale * j + first`` on.

    Args:
        kernel: Of ``draw_kernel``; None: no blur.
        settings: What it was drawn for.
        scale: Reduction factor.

    Returns:
        (side, side) float64 in whole multiples of 1/UNIT, of sum 1; and ``first``, at most 0.
    """
    if kernel is None:
        kernel = np.ones((1, 1))
    first = -(len(kernel) // 2)
    if settings.reduction == "bicubic":
        # Both are correlations: one after the other is the correlation with their full convolution.
        spread, begin = _spread(scale, len(kernel))
        kernel, first = spread @ kernel @ spread.T, first + begin
    return _whole(kernel), first


@lru_cache
def _spread(scale: int, side: int) -> tuple[NDArray[np.float64], int]:
    """Return the matrix that convolves the rows of a kernel with the weights of a reduction, and where these begin."""
    weights, begin = bicubic_weights(scale)
    matrix = np.zeros((len(weights) + side - 1, side))
    for column in range(side):
        matrix[column : column + len(weights), column] = weights
    return matrix, begin


def _whole(kernel: Kernel) -> Kernel:
    """Round to whole multiples of 1/UNIT; the largest weight takes up what is missing."""
    units = np.round(kernel * UNIT)
    units.flat[units.argmax()] += UNIT - units.sum()
    rounded: Kernel = units / UNIT
    return rounded
