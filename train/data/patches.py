"""Random patches of photographs at every scale, cut and reduced on the training device."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.errors import UsageError
from drc_deploy.train.data.detail import detail
from drc_deploy.train.data.gather import Regions, open_reader, to_device
from drc_deploy.train.data.photographs import Entry, Photographs
from drc_deploy.train.data.shrinking import ONE, Shrinking, shares_below_one
from drc_deploy.train.degradation.bicubic import margin, mirrored, reduce_bicubic
from drc_deploy.train.degradation.degrade import RandomValues, border_of, degrade
from drc_deploy.train.degradation.settings import Degradation
from drc_deploy.train.device import training_device

HR = 1
"""The factor by which the photographs themselves are reduced."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance decides about the patches of one step; each array is (n,)."""

    entries: NDArray[np.int64]
    """Numbers of the photographs."""
    tops: NDArray[np.int64]
    """First row, in LR pixels; of reduced photographs in blocks of the numerator of ``share``."""
    lefts: NDArray[np.int64]
    """First column, in the same."""
    flip_rows: NDArray[np.bool_]
    flip_columns: NDArray[np.bool_]
    transpose: NDArray[np.bool_]
    share: Fraction = ONE
    """Sides that the photographs have in this step, as a share of their own."""


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
        self._degradation = photographs.degradation
        self._border = border_of(self._degradation, scale) if self._degradation else 0
        self._margin = max(margin(scale), self._border)
        self._device = training_device()
        self._fitting = {ONE: np.arange(len(photographs.entries))}
        """Sides that photographs may have in a step, as shares of their own; and which have room for a patch then."""
        self._shrinking: dict[Fraction, Shrinking] = {}
        self._pixels, self._candidates = photographs.pixels, 1
        self._reader = open_reader(photographs.pixels, self._regions, self._device, stream=stream)

    def reduce_photographs(self, smallest: float) -> None:
        """Let every step reduce its photographs, before patches are cut, to a share of 1, 0.9, ... or ``smallest``.

        Raises:
            UsageError: no photograph has room for a patch when it is reduced, or one has LR images of its own, which
                are not those of the smaller photograph.
        """
        if any(self._places[factor].given.any() for factor in self._factors[:-1]):
            raise UsageError(
                "the store has LR images of its own, which are not those of reduced photographs.",
                "Leave out --augment-scale, or prepare the store with --lr made.",
            )
        hr, start, stop = self._places[HR], -self._margin, self._scale * self._patch + self._margin
        for share in shares_below_one(smallest):
            room = np.minimum(self._starts(share, hr.heights), self._starts(share, hr.widths))
            if not room.any():
                raise UsageError(
                    f"no photograph has room for a patch when it is reduced to {float(share)}.",
                    "Give larger photographs, a smaller --patch or a larger --augment-scale.",
                )
            self._fitting[share] = np.flatnonzero(room)
            self._shrinking[share] = Shrinking.of(share, start, stop, self._device)

    def prefer_detail(self, candidates: int) -> None:
        """Cut each patch where its photograph has the most detail, of so many places that are drawn."""
        self._candidates = candidates

    def _starts(self, share: Fraction, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return at how many rows or columns of photographs that are reduced to ``share`` a patch can begin."""
        unit = self._scale if share == ONE else share.numerator
        smaller = lengths // share.denominator * share.numerator
        starts: NDArray[np.int64] = np.maximum(0, (smaller - self._scale * self._patch) // unit + 1)
        return starts

    def sample(self, step: int) -> list[Tensor]:
        """Return the batch of one step, flipped and transposed at random.

        Returns:
            One (batch / processes, 3, patch*2^k, patch*2^k) float32 tensor in [0, 255] per scale, coarse to fine, on
            the training device, channels last.
        """
        draw = self.draw(step)
        *reduced, photographs = self._reader.read(step)
        hr = photographs.float()
        if draw.share != ONE:
            hr = self._flipped(self._shrinking[draw.share].apply(hr), draw)
        transpose = to_device(np.flatnonzero(draw.transpose), self._device)
        batch = []
        for factor, given in zip(self._factors, [*reduced, photographs], strict=True):
            if factor == HR:
                images = self._inner(hr, self._margin).contiguous()
            elif factor == self._scale and self._degradation:
                images = self._degraded(hr, step, self._degradation)
            else:
                images = self._level(hr, factor, draw, given)
            # After the reduction: it rounds between rows and columns, so it must see them as they are in the file.
            images.index_copy_(0, transpose, images.index_select(0, transpose).transpose(1, 2).contiguous())
            batch.append(images.permute(0, 3, 1, 2))
        return batch

    def _degraded(self, hr: Tensor, step: int, settings: Degradation) -> Tensor:
        """Return the LR images of a step as (n, patch, patch, 3); each has random values of its own."""
        rank, world = self._shard
        values = [
            # From 1 on: a seed does not change by zeros at its end, and the places of patches have (seed, step).
            RandomValues.of(settings, self._scale, (self._seed, step, number), self._patch, self._patch)
            for number in range(1 + rank, 1 + self._batch, world)
        ]
        return degrade(self._inner(hr, self._margin - self._border), values, settings, self._scale)

    def close(self) -> None:
        """End what runs in the background."""
        self._reader.close()

    def draw(self, step: int) -> Draw:
        """Draw the whole batch of a step, and give what this process has of it."""
        random = np.random.default_rng((self._seed, step))
        hr, shares = self._places[HR], list(self._fitting)
        share = shares[random.integers(len(shares))] if len(shares) > 1 else ONE
        fitting = self._fitting[share]
        entries = fitting[random.integers(len(fitting), size=self._batch)]
        lengths = hr.heights[entries], hr.widths[entries]
        places = [
            np.stack([random.integers(self._starts(share, length)) for length in lengths])
            for _ in range(self._candidates)
        ]
        rank, world = self._shard
        mine = slice(rank, None, world)
        flip_rows, flip_columns, transpose = random.integers(2, size=(3, self._batch)).astype(np.bool_)[:, mine]
        tops, lefts = places[0][:, mine]
        if len(places) > 1:
            tops, lefts = self._best(share, entries[mine], np.stack(places)[:, :, mine])
        return Draw(entries[mine], tops, lefts, flip_rows, flip_columns, transpose, share)

    def _best(self, share: Fraction, entries: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of (candidates, 2, n) rows and columns have the most detail, as (2, n)."""
        hr, block = self._places[HR], self._scale if share == ONE else share.denominator
        side = int(self._scale * self._patch / share)
        strides = np.tile(hr.strides[entries], len(places))
        first = places * block
        corners = (first[:, 0] * hr.strides[entries] + first[:, 1] + hr.offsets[entries]).ravel()
        found = detail(self._pixels, corners, strides, side).reshape(len(places), -1)
        best: NDArray[np.int64] = places[found.argmax(axis=0), :, np.arange(len(entries))].T
        return best

    def _regions(self, step: int) -> list[Regions]:
        """Return what to read for a step: at each scale the images that are given, coarse to fine."""
        draw = self.draw(step)
        if draw.share != ONE:
            nothing = Regions(np.empty((0, 0), np.int64), np.empty((0, 0), np.int64))
            return [*(nothing for _ in self._factors[1:]), self._to_shrink(draw)]
        return [self._of_scale(factor, draw) for factor in self._factors]

    def _to_shrink(self, draw: Draw) -> Regions:
        """Return what the patches of reduced photographs are made of; they are flipped after that."""
        places, how, block = self._places[HR], self._shrinking[draw.share], draw.share.denominator
        entries = draw.entries[:, None]
        side = np.arange(how.first, how.first + how.length)
        down = mirrored(side + draw.tops[:, None] * block, places.heights[entries] // block * block)
        right = mirrored(side + draw.lefts[:, None] * block, places.widths[entries] // block * block)
        return Regions(down * places.strides[entries] + places.offsets[entries], right)

    def _flipped(self, images: Tensor, draw: Draw) -> Tensor:
        for axis, flips in ((1, draw.flip_rows), (2, draw.flip_columns)):
            n = to_device(np.flatnonzero(flips), self._device)
            images.index_copy_(0, n, images.index_select(0, n).flip(axis))
        return images

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
