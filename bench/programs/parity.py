"""Whether another program computes what our engine does: the times of one that does not mean nothing."""

from collections.abc import Sequence

import numpy as np

from drc_deploy.bench.measure.fidelity import DifferenceSum, ImageDifference
from drc_deploy.errors import VerificationError
from drc_deploy.metrics import UInt8Image

REQUIRED_DB = 50.0
"""A difference of one grey level in every sample gives 48 dB; half precision stays above 50 (see `export`)."""
SIDES_PX = ((96, 96), (40, 56))
"""Largest heights and widths of the images compared. Two sizes: a converter may burn one of them in."""


def comparison_inputs(image: UInt8Image) -> list[UInt8Image]:
    """Return the parts of an image (H, W, 3) on which outputs are compared."""
    return [np.ascontiguousarray(image[:height, :width]) for height, width in SIDES_PX]


def compare(ours: Sequence[UInt8Image], theirs: Sequence[UInt8Image]) -> ImageDifference:
    """Compare results for the same inputs.

    Raises:
        VerificationError: the sizes differ, or the images do by more than ``REQUIRED_DB`` allows.
    """
    hint, found = "Do not use it for this network.", DifferenceSum()
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            raise VerificationError(f"it gives {other.shape} where our engine gives {one.shape}.", hint)
        found.add(other, one)
    difference = found.total()
    if difference.psnr_db is not None and difference.psnr_db < REQUIRED_DB:
        raise VerificationError(
            f"its output is not that of our engine: PSNR {difference.psnr_db:.1f} dB between them, needed are "
            f"{REQUIRED_DB:.0f}, largest difference {difference.max_levels} of 255.",
            hint,
        )
    return difference
