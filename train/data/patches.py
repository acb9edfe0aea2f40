"""Random patches of photographs at every scale, cut and reduced on the training device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.train.data.degradation import margin, mirrored, reduce_bicubic
from drc_deploy.train.data.gather import Regions, open_reader, to_device
from drc_deploy.train.data.photographs import Entry, Photographs
from drc_deploy.train.device import training_device

HR = 1
"""The factor by which the photographs themselves are reduced."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance decides about the patches of one step; each array is (n,)."""

    entries: NDArray[np.int64]
    """Numbers of the photographs."""
    tops: NDArray[np.int64]
    """First row, in LR pixels."""
    lefts: NDArray[np.int64]
    """First column, in LR pixels."""
    flip_rows: NDArray[np.bool_]
    flip_columns: NDArray[np.bool_]
    transpose: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the images of one reduction factor lie; each array is (entries,)."""

    given: NDArray[np.bool_]
    """Whether the image is there; where it is not, the rest means nothing."""
    offsets: NDArray[np.int64]
    heights: NDArray[np.int64]
    """Without what lies beyond the last whole LR pixel."""
    widths: NDArray[np.int64]
    """Without what lies beyond the last whole LR pixel."""
    strides: NDArray[np.int64]
    """Pixels from one row to the next."""

    @classmethod
    def of(cls, entries: Sequence[Entry], factor: int, scale: int) -> "_Places":
        """Collect the images that are 1/``factor`` as large as the photographs."""
        placed = [entry.hr if factor == HR else dict(entry.lr).get(factor) for entry in entries]
        numbers = np.array([(p.offset, p.height, p.width) if p else (0, 0, 0) for p in placed], np.int64)
        offsets, heights, strides = numbers.reshape(-1, 3).T
        whole = scale // factor
        given = np.array([p is not None for p in placed], np.bool_)
        return cls(given, offsets, heights // whole * whole, strides // whole * whole, strides)


class PatchSource(Protocol):
    """Batches of images at every scale; the same for the same step."""

    def sample(self, step: int) -> list[Tensor]:
        """Return the batch of one step; see ``PatchSampler.sample``."""

    def close(self) -> None:
        """End what runs in the background."""


class PatchSampler:
    """The same patches for the same seed and step, so that a resumed run sees what it would have seen."""

    def __init__(
        self,
        photographs: Photographs,
        *,
        scale: int,
        patch: int,
        batch: int,
        seed: int,
        shard: tuple[int, int] = (0, 1),
        stream: bool | None = None,
    ) -> None:
        """Put the pixels where they will be cut.

        Args:
            photographs: With room for a patch each (``Photographs.usable``).
            scale: Upscaling factor, a power of two up to 8.
            patch: Side of an LR patch.
            batch: Patches of a step, in all processes together.
            seed: Decides everything, with the step.
            shard: Number of this process, and how many there are; number r of w gets patches r, r + w, ...
            stream: Leave the pixels on the host and read ahead; None: if they are too large for the device.
        """
        self._scale, self._patch, self._batch, self._seed, self._shard = scale, patch, batch, seed, shard
        self._factors = [scale >> level for level in range(scale.bit_length())]
        self._places = {factor: _Places.of(photographs.entries, factor, scale) for factor in self._factors}
        self._margin = margin(scale)
        self._device = training_device()
        self._reader = open_reader(photographs.pixels, self._regions, self._device, stream=stream)

    def sample(self, step: int) -> list[Tensor]:
        """Return the batch of one step, flipped and transposed at random.

        Returns:
            One (batch / processes, 3, patch*2^k, patch*2^k) float32 tensor in [0, 255] per scale, coarse to fine, on
            the training device, channels last.
        """
        draw = self.draw(step)
        *reduced, photographs = self._reader.read(step)
        hr = photographs.float()
        transpose = to_device(np.flatnonzero(draw.transpose), self._device)
        batch = []
        for factor, given in zip(self._factors, [*reduced, photographs], strict=True):
            images = (
                self._inner(hr, self._margin).contiguous() if factor == HR else self._level(hr, factor, draw, given)
            )
            # After the reduction: it rounds between rows and columns, so it must see them as they are in the file.
            images.index_copy_(0, transpose, images.index_select(0, transpose).transpose(1, 2).contiguous())
            batch.append(images.permute(0, 3, 1, 2))
        return batch

    def close(self) -> None:
        """End what runs in the background."""
        self._reader.close()

    def draw(self, step: int) -> Draw:
        """Draw the whole batch of a step, and give what this process has of it."""
        random = np.random.default_rng((self._seed, step))
        hr = self._places[HR]
        entries = random.integers(len(hr.offsets), size=self._batch)
        tops = random.integers(hr.heights[entries] // self._scale - self._patch + 1)
        lefts = random.integers(hr.widths[entries] // self._scale - self._patch + 1)
        flips = random.integers(2, size=(3, self._batch)).astype(np.bool_)
        rank, world = self._shard
        return Draw(*(array[rank::world] for array in (entries, tops, lefts, *flips)))

    def _regions(self, step: int) -> list[Regions]:
        """Return what to read for a step: at each scale the images that are given, coarse to fine."""
        draw = self.draw(step)
        return [self._of_scale(factor, draw) for factor in self._factors]

    def _of_scale(self, factor: int, draw: Draw) -> Regions:
        places, whole = self._places[factor], self._scale // factor
        n = np.flatnonzero(places.given[draw.entries])
        entries = draw.entries[n, None]
        border = self._margin if factor == HR else 0
        side = np.arange(-border, self._patch * whole + border)
        # A reduced flipped image is the flipped reduced image, so that flips cost nothing here.
        down = np.where(draw.flip_rows[n, None], side[::-1], side) + draw.tops[n, None] * whole
        right = np.where(draw.flip_columns[n, None], side[::-1], side) + draw.lefts[n, None] * whole
        rows = mirrored(down, places.heights[entries]) * places.strides[entries] + places.offsets[entries]
        return Regions(rows, mirrored(right, places.widths[entries]))

    def _level(self, hr: Tensor, factor: int, draw: Draw, given: Tensor) -> Tensor:
        """Return one low-resolution scale as (n, side, side, 3): made from ``hr``, but for those that are given."""
        n = np.flatnonzero(self._places[factor].given[draw.entries])
        if len(n) == len(draw.entries):
            return given.float()
        images = reduce_bicubic(self._inner(hr, self._margin - margin(factor)), factor)
        return images.index_copy_(0, to_device(n, self._device), given.float()) if len(n) else images

    @staticmethod
    def _inner(images: Tensor, border: int) -> Tensor:
        """Take ``border`` pixels off each side of (n, height, width, 3)."""
        return images[:, border : images.shape[1] - border, border : images.shape[2] - border]
