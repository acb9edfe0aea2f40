"""Blur kernels of images: files of them, and what they are in the pixels of the blurred image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import InputError, UsageError
from drc_deploy.images.resize import bicubic_weights
from drc_deploy.input_files import MOST_BYTES, open_file

Reduction = Literal["bicubic", "subsample"]
LARGEST_SIDE = 127
"""Of a kernel in HR pixels."""
LARGEST_SCALE = 16
LEAST_INSIDE = 0.9
"""Share of a kernel that must lie within the pixels for which a network knows kernels."""
_CELL_PX = 8
"""Side of a weight in a picture."""
_SUM_ERROR = 1e-3
_POINTS = 128
"""LR pixels along each axis of the periodic image in which kernels are transformed: more than any kernel spans."""
_KEYS = ("kernel", "scale", "reduction")
_HINT = "Give a file of `drc-deploy data degrade`, or save kernel, scale and reduction with numpy.savez."


@dataclass(frozen=True, slots=True)
class Blur:
    """What an HR image was blurred with before it was reduced."""

    kernel: NDArray[np.float64]
    """(K, K), K odd, in HR pixels: weights of a correlation, not negative, of sum 1. The middle one belongs to the HR
    pixel that is blurred; for ``subsample`` that is the first of the ``scale`` x ``scale`` that become an LR pixel."""
    scale: int
    reduction: Reduction

    @property
    def lr_side(self) -> int:
        """Side of the kernel in LR pixels, rounded up."""
        return -(-len(self.kernel) // self.scale)

    def as_lr_kernel(self, side: int) -> NDArray[np.float32]:
        """Return the kernel that turns the bicubic LR image of a sharp image into its blurred LR image.

        That is the least squares solution over images whose energy falls with the square of the frequency, as that of
        photographs does; without its negative weights, as blind networks know kernels.

        Args:
            side: Of the result, odd.

        Returns:
            (side, side) float32 in LR pixels, of sum 1; the weights of a convolution, the middle one of no shift.

        Raises:
            UsageError: too much of it lies further from the middle.
        """
        blurred = self._transfer()
        row, first = bicubic_weights(self.scale)
        bicubic = _transfer(np.outer(row, row), first, self.scale)
        expected = _photograph_energy(self.scale)
        # Frequencies that fall on one another in the reduced image.
        ratio = _folded(blurred * bicubic.conj() * expected) / _folded(np.abs(bicubic) ** 2 * expected)
        kernel = np.roll(np.fft.ifft2(ratio).real, (side // 2, side // 2), axis=(0, 1))[:side, :side]
        if kernel.sum() < LEAST_INSIDE:  # that of all pixels is 1
            raise UsageError(
                f"the blur reaches further than {side // 2} LR pixels, which the network knows kernels for.",
                "Give one that is smaller, or centred.",
            )
        kernel = kernel.clip(0)
        result: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
        return result

    def _transfer(self) -> NDArray[np.complex128]:
        """Return the response of blur and reduction to each frequency."""
        blur = _transfer(self.kernel, -(len(self.kernel) // 2), self.scale)
        if self.reduction == "subsample":
            return blur
        row, first = bicubic_weights(self.scale)
        return blur * _transfer(np.outer(row, row), first, self.scale)


def _transfer(weights: NDArray[np.float64], first: int, scale: int) -> NDArray[np.complex128]:
    """Return the response to each frequency of a correlation whose first row and column have the offset ``first``."""
    points = _POINTS * scale
    places = np.zeros((points, points))
    places[: len(weights), : len(weights)] = weights
    response: NDArray[np.complex128] = np.fft.fft2(np.roll(places, (first, first), axis=(0, 1))).conj()
    return response


def _photograph_energy(scale: int) -> NDArray[np.float64]:
    """Return the energy of a photograph at each frequency, as far as it is the same for all of them."""
    squares = np.fft.fftfreq(_POINTS * scale) ** 2
    energy = squares[:, None] + squares
    energy[0, 0] = energy[0, 1]  # the brightness, which a sum of 1 keeps
    inverse: NDArray[np.float64] = 1 / energy
    return inverse


def _folded(spectrum: NDArray[Any]) -> NDArray[Any]:
    """Sum the frequencies that are one in the reduced image: (scale*n, scale*n) -> (n, n)."""
    folded: NDArray[Any] = spectrum.reshape(-1, _POINTS, spectrum.shape[1] // _POINTS, _POINTS).sum(axis=(0, 2))
    return folded


def read_blur(path: Path) -> Blur:
    """Read a ``.npz`` file with ``kernel``, ``scale`` and ``reduction``.

    Raises:
        InputError: it cannot be read, or is no such file.
        UsageError: the kernel cannot be one: it has negative weights, another sum than 1, or no middle.
    """
    kernel, scale, reduction = _read(path)
    problem = _problem(kernel)
    if not problem and not (scale == int(scale) and 1 <= scale <= LARGEST_SCALE):
        problem = f"is for a scale of {scale:g}"
    if not problem and reduction not in get_args(Reduction):
        problem = f"is for the reduction {reduction!r}, and bicubic and subsample are known"
    if problem:
        raise UsageError(f"the kernel of {path} {problem}.", _HINT)
    return Blur(kernel / kernel.sum(), int(scale), reduction)


def kernel_picture(kernel: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Show the middle half of a kernel: (S, S, 3) uint8, its largest weight white and no weight black."""
    outer = len(kernel) // 4
    middle = kernel[outer : len(kernel) - outer, outer : len(kernel) - outer]
    shares = middle.clip(0) / max(float(middle.max()), np.finfo(np.float32).tiny)
    # Small weights are what kernels differ in.
    levels: NDArray[np.uint8] = (255 * np.sqrt(shares)).astype(np.uint8)
    return levels.repeat(_CELL_PX, axis=0).repeat(_CELL_PX, axis=1)[:, :, None].repeat(3, axis=2)


def kernel_widths(kernel: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return how wide a kernel is: its standard deviations along its long and its short axis, in its pixels.

    The third number is the direction of the long axis in degrees, counterclockwise from the row: -90 to 90.
    """
    weights = kernel.astype(np.float64).clip(0)
    weights /= weights.sum()
    places = np.indices(weights.shape) * np.array([-1, 1])[:, None, None]  # upwards and to the right
    offsets = places - (places * weights).sum(axis=(1, 2), keepdims=True)
    covariance = np.einsum("iyx,jyx,yx->ij", offsets, offsets, weights)
    variances, axes = np.linalg.eigh(covariance)
    upwards, right = axes[:, 1] if axes[1, 1] >= 0 else -axes[:, 1]
    short, long = np.sqrt(variances.clip(0))
    return float(long), float(short), float(np.degrees(np.arctan2(upwards, right)))


def find_blurs(folder: Path, scale: int, names: Sequence[str]) -> dict[str, Blur] | None:
    """Return the blurs of the images of a set, by name, from its folder ``kernels_x<scale>``; None: it has none.

    Raises:
        InputError: there is none for some images, or a file cannot be read.
        UsageError: a file holds no kernel, or one for another scale.
    """
    kernels = folder / kernel_folder(scale)
    if not kernels.is_dir():
        return None
    files = {name: kernels / f"{name}.npz" for name in names}
    if missing := [name for name, file in files.items() if not file.is_file()]:
        raise InputError(
            f"{kernels} lacks the kernels of {len(missing)} of {len(names)} images: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}.",
            "Copy the whole set again, or remove that folder: then no kernels are compared.",
        )
    blurs = {name: read_blur(file) for name, file in files.items()}
    for name, blur in blurs.items():
        if blur.scale != scale:
            raise UsageError(f"{files[name]} is for x{blur.scale}, not x{scale}.", "Make the set again.")
    return blurs


def kernel_folder(scale: int) -> str:
    """Return the name of the folder of kernels in a set."""
    return f"kernels_x{scale}"


def _read(path: Path) -> tuple[NDArray[np.float64], float, Any]:
    """Return kernel, scale and reduction of a file, as they are."""
    try:
        with open_file(path) as stream, np.load(stream, allow_pickle=False) as file:
            if sum(item.file_size for item in file.zip.infolist()) > MOST_BYTES:
                raise ValueError("much is packed into it")
            missing = [name for name in _KEYS if name not in file.files]
            kernel, scale, reduction = (np.zeros(()) if missing else file[name] for name in _KEYS)
            numbers = kernel.dtype.kind in "fiu" and scale.dtype.kind in "fiu"
            content = kernel.astype(np.float64), float(scale), reduction.item()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except Exception as error:  # of NumPy, the archive, or Python's parser, which reads the heads of arrays
        raise InputError(f"{path} is no file of a blur kernel.", _HINT) from error
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}.", _HINT)
    if not numbers or not np.isfinite(content[1]):
        raise InputError(f"{path} is no file of a blur kernel.", _HINT)
    return content


def _problem(kernel: NDArray[np.float64]) -> str:
    """Return what is wrong with the weights of a kernel; empty where nothing is."""
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel) % 2:
        return f"has the shape {kernel.shape}: it must be a square with an odd side"
    if len(kernel) > LARGEST_SIDE:
        return f"has a side of {len(kernel)}, and at most {LARGEST_SIDE} are possible"
    if not np.isfinite(kernel).all():
        return "has weights that are no numbers"
    if kernel.min() < 0:
        return "has negative weights"
    if abs(kernel.sum() - 1) > _SUM_ERROR:
        return f"has the sum {kernel.sum():.6g}, not 1"
    return ""
