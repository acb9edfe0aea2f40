"""Photographs a little smaller than they are, so that patches show other structures and less of JPEG.

Equal to ``drc_deploy.images.resize.resize_bicubic`` of the whole photograph, except that weights are rounded to whole
multiples of 2^-16. As in ``degradation.bicubic``, all sums are then exact: a GPU makes the pixels that a CPU makes.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.images.resize import cubic
from drc_deploy.train.degradation.bicubic import CENTRE, rounded

ONE = Fraction(1)
_UNIT = 1 << 16


def shares_below_one(smallest: float) -> list[Fraction]:
    """Return the tenths below one and at least ``smallest``: with p/q, each q pixels become p with the same weights."""
    return [share for tenths in range(9, 0, -1) if (share := Fraction(tenths, 10)) >= smallest]


@dataclass(frozen=True, slots=True)
class Shrinking:
    """How a region of a photograph becomes pixels ``start`` to ``stop`` of the smaller one, along rows and columns.

    Pixel 0 of the smaller photograph is the first of a block of p, and lies over the first pixel of a block of q.
    """

    first: int
    """First pixel of the region, counted from the first of the block."""
    length: int
    """Side of the region in pixels."""
    taps: Tensor
    """(taps, stop - start) int64: which pixels of the region each new one is made of."""
    weights: Tensor
    """(taps, stop - start) float32: what they count."""

    @classmethod
    def of(cls, share: Fraction, start: int, stop: int, device: torch.device) -> "Shrinking":
        """Prepare for one share below 1."""
        reach = 2 / share
        centres = [(Fraction(pixel) + Fraction(1, 2)) / share - Fraction(1, 2) for pixel in range(start, stop)]
        firsts = np.array([math.floor(centre - reach) + 1 for centre in centres])
        taps = firsts + np.arange(math.ceil(2 * reach))[:, None]
        weights = cubic((taps - np.array(centres, float)) * float(share))
        first = int(firsts[0])
        whole = _whole(weights / weights.sum(axis=0))
        return cls(
            first,
            int(taps.max()) + 1 - first,
            torch.from_numpy(taps - first).to(device),
            torch.from_numpy((whole / _UNIT).astype(np.float32)).to(device),
        )

    def apply(self, regions: Tensor) -> Tensor:
        """Reduce (n, length, length, 3) float32 of whole numbers in [0, 255]: rows first, then columns.

        Returns:
            (n, stop - start, stop - start, 3) float32, whole numbers in [0, 255], contiguous.
        """
        rows = self._along_rows(regions - CENTRE)
        columns = self._along_rows(rows.transpose(1, 2).contiguous())
        return columns.add_(CENTRE).transpose(1, 2).contiguous()

    def _along_rows(self, centred: Tensor) -> Tensor:
        """Reduce dimension 1 of values in [-128, 127]."""
        weights = self.weights[:, None, :, None, None]
        total = centred.index_select(1, self.taps[0]).mul_(weights[0])
        for taps, weight in zip(self.taps[1:], weights[1:], strict=True):
            total.addcmul_(centred.index_select(1, taps), weight)
        return rounded(total)


def _whole(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights, whose sums over axis 0 are 1, in whole units of 2^-16; the largest takes up what is missing."""
    whole = np.round(weights * _UNIT)
    largest, columns = whole.argmax(axis=0), np.arange(whole.shape[1])
    whole[largest, columns] += _UNIT - whole.sum(axis=0)
    return whole
