"""How close two sets of images are, in the measures that an export is judged by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drc_deploy.engine_info import Precision
from drc_deploy.errors import VerificationError
from drc_deploy.runtime.backends.contract import Pixels

REQUIRED_PSNR_DB: dict[Precision, float] = {"fp32": 60.0, "fp16": 50.0, "bf16": 50.0, "int8": 40.0}
"""Between the outputs of an export and of torch in float32, on real images.

50 dB of error of its own take 0.06 dB from a network of 31.5 dB to the truth. With every result rounded, the shipped
networks reach 76 to 79 dB in float16 and 57 to 61 dB in bfloat16, which has three bits less. INT8 is another trade:
drn_xs at 40.8 dB lost 0.05 dB to the originals on photographs and 0.03 dB on Set5, at 30.6 dB 0.51 and 1.20 dB.
"""
HINTS: dict[Precision, str] = {
    "fp32": "Report this network: no file was written.",
    "fp16": "Export with --precision bf16, whose range is that of float32, or with --precision fp32.",
    "bf16": "Export with --precision fp16 or fp32.",
    "int8": "Calibrate on images like yours (--calibrate FOLDER), or export with --precision fp16 or fp32.",
}
"""Advice where a precision misses its PSNR."""
NOTES: dict[Precision, str] = {
    "fp32": "",
    "fp16": "ONNX Runtime computes a float16 graph in float32 on a CPU, so that it shows only the rounding of the "
    "weights; the figure with every result rounded stands for the GPU.",
    "bf16": "ONNX Runtime has no bfloat16 convolution on a CPU: it ran the graph with its bfloat16 tensors widened to "
    "float32, which shows only the rounding of the weights; the figure with every result rounded stands for the GPU.",
    "int8": "",
}
"""What the check of an ONNX file on a CPU does not show of a precision."""
IDENTICAL_PSNR_DB = 200.0
"""Stands for equal images, whose PSNR is infinite and has no JSON."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How close a candidate is to its reference over several batches, both in [0, 255]."""

    psnr_db: float
    """Lowest over the batches, peak 255."""
    max_difference: float
    """In grey levels."""
    differing_share: float
    """Share of samples that are another value: after rounding, those that a viewer could see."""
    saturated_share: float
    """Share of the candidate's samples at 0 or 255."""

    @classmethod
    def between(cls, references: Sequence[Pixels], candidates: Sequence[Pixels]) -> "Agreement":
        """Compare batches of (N, H, W, 3), uint8 or float32. NaN in a candidate gives a PSNR of -infinity."""
        differences = [
            np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
            for reference, candidate in zip(references, candidates, strict=True)
        ]
        total = sum(difference.size for difference in differences)
        return cls(
            psnr_db=min(_psnr_db(difference) for difference in differences),
            max_difference=float(max(difference.max() for difference in differences)),
            differing_share=sum(int(np.count_nonzero(difference)) for difference in differences) / total,
            saturated_share=sum(int(np.sum((c <= 0) | (c >= 255))) for c in candidates) / total,
        )


def _psnr_db(difference: NDArray[np.float64]) -> float:
    mean_square = float(np.mean(difference**2))
    if not math.isfinite(mean_square):
        return -math.inf
    if mean_square == 0:
        return IDENTICAL_PSNR_DB
    return min(IDENTICAL_PSNR_DB, 10 * math.log10(255**2 / mean_square))


def to_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """Clip and round half up, as the uint8 graph and the runtime do."""
    rounded: NDArray[np.uint8] = np.floor(np.clip(pixels, 0, 255) + 0.5).astype(np.uint8)
    return rounded


def require_psnr(
    agreement: Agreement, precision: Precision, what: str, cause: str = "", *, reference: str = "torch in float32"
) -> None:
    """Apply the gate; ``what`` names the candidate and ``cause`` the layer at fault, if it is known.

    Raises:
        VerificationError: too low a PSNR.
    """
    required = REQUIRED_PSNR_DB[precision]
    if agreement.psnr_db < required:
        raise VerificationError(
            f"{what} differs from {reference}: PSNR {agreement.psnr_db:.1f} dB, needed are {required:.0f} dB "
            f"(largest difference {agreement.max_difference:.2f} grey levels).{cause}",
            HINTS[precision],
        )
