"""Fourier transforms of images, as pairs of real tensors: by ``torch.fft``, and in an export as products of matrices.

TensorRT has no operator for transforms, and that of ONNX Runtime is slower than the products.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Spectrum = tuple[Tensor, Tensor]
"""Real and imaginary parts. ``torch.fft`` leaves out half of the frequencies, which the other half decides."""


def spectrum_of(images: Tensor, height: int, width: int, first: int = 0) -> Spectrum:
    """Return the transform of ``height`` x ``width`` points of smaller images, which are continued by zeros.

    Args:
        images: (..., h, w) float32 or float64.
        height: At least h.
        width: At least w.
        first: Row and column of the images that lie at the first point; those before it wrap around.
    """
    if not torch.compiler.is_exporting():
        rows, columns = images.shape[-2:]
        padded = F.pad(images, (0, width - columns, 0, height - rows))
        spectrum = torch.fft.rfft2(padded.roll((-first, -first), dims=(-2, -1)))
        return spectrum.real, spectrum.imag
    cos_rows, sin_rows = _waves(images, height, images.shape[-2], first)
    cos_columns, sin_columns = _waves(images, width, images.shape[-1], first)
    real, imaginary = images @ cos_columns.T, -(images @ sin_columns.T)
    return cos_rows @ real + sin_rows @ imaginary, cos_rows @ imaginary - sin_rows @ real


def image_of(spectrum: Spectrum, height: int, width: int) -> Tensor:
    """Return the real images, (..., height, width), of a spectrum that was made by ``spectrum_of``."""
    real, imaginary = spectrum
    if not torch.compiler.is_exporting():
        image: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width))
        return image
    cos_rows, sin_rows = _waves(real, height, height, 0)
    cos_columns, sin_columns = _waves(real, width, width, 0)
    rows = cos_rows @ real - sin_rows @ imaginary, cos_rows @ imaginary + sin_rows @ real
    return (rows[0] @ cos_columns - rows[1] @ sin_columns) / (height * width)


def _waves(like: Tensor, points: int, places: int, first: int) -> Spectrum:
    """Return cosine and sine of every frequency at places -first, 1 - first, ...: (points, places) each."""
    frequencies = torch.arange(points, device=like.device)
    count = frequencies[-1:] + 1  # a tensor: ONNX's remainder takes no number that only a size decides
    # Whole turns are taken off as whole numbers: float32 would lose the phase of large products.
    turns = (frequencies[:, None] * (torch.arange(places, device=like.device) - first)).remainder(count)
    angles = turns.to(like.dtype) * (2 * math.pi / count.to(like.dtype))
    return angles.cos(), angles.sin()


def product(one: Spectrum, other: Spectrum, *, conjugate: bool = False) -> Spectrum:
    """Return one spectrum times another, or times its conjugate, frequency by frequency."""
    sign = -1 if conjugate else 1
    return one[0] * other[0] - sign * one[1] * other[1], sign * one[0] * other[1] + one[1] * other[0]


def energy(spectrum: Spectrum) -> Tensor:
    """Return the squared magnitude of each frequency."""
    return spectrum[0].square() + spectrum[1].square()
