"""Measures which input sizes a network takes and how far its output pixels see, from nothing but running it.

One column of a long, narrow strip is changed, and the output columns that change with it are looked up. NaN marks
exactly what can see the column. It over-reports where a mask hides a neighbour, as in shifted windows of attention.
There a finite change in float64 shows what truly matters. What reaches an end of the longest strip counts as global.
"""

import copy
import math
import warnings
from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drc_deploy.errors import UsageError

# Sides and origins that networks ask for. Powers of two first: where one of them holds, no odd factor is needed.
_STEPS = (1, 2, 4, 8, 16, 32, 64, 3, 6, 12, 24, 48, 5, 10, 7, 14)
_SHORT, _LONG = 192, 768  # lengths of strips; multiples of most steps
# Least change, as a share of the greatest output, that is no rounding. Channel attention may change 1e-6 only.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True, slots=True)
class Reach:
    """Which inputs a network takes, and how much of them an output pixel sees."""

    multiple_of: int
    """Sides of inputs are multiples of this, and so are origins of tiles that compute as the whole image does."""
    minimum: int
    """Least side of an input, in pixels; a multiple of ``multiple_of``."""
    receptive_field: int
    """How far an output pixel sees on each side through local operations, in input pixels. Never too small by
    more than rounding, unless ``global_operations``: then the part that stands out of the global one."""
    global_operations: bool
    """Whether no tile computes exactly what the whole image does: something sees all of it, such as channel attention,
    or how large it is, such as resizing to its size; or the reach is above 380 pixels."""


def measure_reach(network: nn.Module, scale: int) -> Reach:
    """Measure a network by running copies of it on small images; takes seconds, for 16 M parameters a minute.

    Args:
        network: Float32, on the CPU. Maps (N, 3, H, W) in [0, 255] to (N, 3, scale*H, scale*W). Left as it is.
        scale: Upscaling factor.

    Raises:
        UsageError: no size works, or the output is no finite image of ``scale`` times the size.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the network's own; a user can do nothing about them
        probe = _Probe(network, scale, torch.float32)
        multiple, known = _accepted_multiple(probe)
        known_sides = range(multiple, known + 1, multiple)
        minimum = known_sides[bisect_left(known_sides[:-1], True, key=lambda side: probe.takes(side, side))]
        precise = _Probe(network, scale, torch.float64)
        strips = _Strips(precise if precise.takes(known, known) else probe, probe, minimum, multiple)
        return strips.measure()


class _Probe:
    """A copy of a network in one precision, and the check of what it returns."""

    def __init__(self, network: nn.Module, scale: int, dtype: torch.dtype) -> None:
        self.scale, self.dtype = scale, dtype
        self.network = copy.deepcopy(network).eval().to(dtype)
        for module in self.network.modules():
            for name, value in list(vars(module).items()):  # plain attributes, which ``to`` does not see
                if isinstance(value, Tensor) and value.is_floating_point():
                    setattr(module, name, value.to(dtype))

    def run(self, image: Tensor) -> Tensor:
        """Return the output for a copy of an image, since networks may write into their input.

        Raises:
            UsageError: it fails, or the output has another type or size.
        """
        height, width = image.shape[-2:]
        try:
            output = self.network(image.to(self.dtype, copy=True))
        except Exception as error:  # a foreign network may fail in any way
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"the network fails on an image of {width}x{height} pixels: {reason}", _HINT) from error
        if not isinstance(output, Tensor):
            raise UsageError(f"the network returns a {type(output).__name__}, not one image.", _HINT)
        if output.shape != (1, 3, self.scale * height, self.scale * width):
            raise UsageError(
                f"the network turns {tuple(image.shape)} into {tuple(output.shape)}, not {self.scale} times the size.",
                _HINT,
            )
        return output

    def check(self, height: int, width: int) -> None:
        """Raise UsageError unless the network makes a finite image of one of that size."""
        if not self.run(_image(height, width)).isfinite().all():
            raise UsageError(f"the network returns NaN or infinity on {width}x{height} pixels.", _HINT)

    def takes(self, height: int, width: int) -> bool:
        """Return whether ``check`` passes."""
        try:
            self.check(height, width)
        except UsageError:
            return False
        return True


_HINT = "Wrap it so that it maps (N, 3, H, W) in 0..255 to one (N, 3, scale*H, scale*W); sides may be multiples of 64."


def _image(height: int, width: int) -> Tensor:
    """Return the same noise in [0, 255] for the same size, float64."""
    return 255 * torch.rand(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _accepted_multiple(probe: _Probe) -> tuple[int, int]:
    """Return the step of the sides that work, and a side that does.

    Raises:
        UsageError: none does.
    """
    refusals = {}
    for least in (32, 128):  # cheap images first; some networks need large ones
        for step in _STEPS:
            odd = least // step | 1  # odd multiples without a common divisor: no greater step holds by chance
            try:
                probe.check(step * odd, step * (odd + 2))
            except UsageError as refusal:
                refusals[step] = refusal
            else:
                return step, step * (odd + 2)
    raise refusals[64]


class _Strips:
    """Measurements in images that are as narrow as the network bears, lying and upright."""

    def __init__(self, probe: _Probe, rough: _Probe, narrow: int, multiple: int) -> None:
        self.probe, self.rough, self.narrow, self.multiple = probe, rough, narrow, multiple
        self.upright = False

    def measure(self) -> Reach:
        """Measure along both sides and return the greater of each; along one where that sees the whole image.

        Tiles are only close to the whole then: a second measurement takes minutes and changes nothing.
        """
        reach, step, is_global = 0, self.multiple, False
        for self.upright in (False, True):
            along, is_global, poison = self.reach()
            if is_global:
                self.probe = self.rough  # nothing is exact, and twice as fast
            step, exact = self.step(along, step)
            is_global |= not exact  # it sees how large the image is, as does resizing to its size
            if is_global:
                along += step - 1  # of one column only; the others of a window may see that much further
            elif step > 1:
                along = self.worst_phase(along, step, poison)
            reach = max(reach, along)
            if is_global:
                break
        return Reach(step, math.ceil(self.narrow / step) * step, reach, is_global)

    @property
    def tolerance(self) -> float:
        """Least change that is no rounding, as a share of the greatest output."""
        return _TOLERANCE[self.probe.dtype]

    def run(self, strip: Tensor) -> Tensor:
        """Return the output for a strip, both lying."""
        return self.probe.run(strip.mT).mT if self.upright else self.probe.run(strip)

    def strip(self, length: int) -> Tensor:
        """Return noise of that length, rounded up to what the network takes."""
        return _image(self.narrow, math.ceil(length / self.multiple) * self.multiple)

    def profile(self, length: int, column: int, poison: bool) -> Tensor:
        """Return how much each column of the output changes with one of the input, (length,) in input columns."""
        strip = self.strip(length)
        changed = strip.clone()
        changed[..., column] = math.nan if poison else 255 - strip[..., column]
        if poison:
            try:
                change = self.run(changed).isnan().to(self.probe.dtype)
            except UsageError:  # it makes indices of values: as if NaN were everywhere
                return torch.ones(strip.shape[-1])
        else:
            output = self.run(changed)
            before = self.run(strip)
            change = ((output - before).abs() / before.abs().max().clamp_min(1e-30)).nan_to_num(nan=math.inf)
        return change.amax((0, 1, 2)).view(-1, self.probe.scale).amax(1)

    def extent(self, length: int, column: int, poison: bool) -> int:
        """Return how far a change of one column is seen; the strip's length if up to an end of it."""
        return self.farthest(self.profile(length, column, poison), column)

    def farthest(self, profile: Tensor, column: int) -> int:
        """Return the distance of the farthest change; the strip's length if at an end of it."""
        seen = (profile > self.tolerance).nonzero().flatten().tolist() or [column]
        if seen[0] == 0 or seen[-1] == len(profile) - 1:
            return len(profile)
        return int(max(column - seen[0], seen[-1] - column))

    def reach(self) -> tuple[int, bool, bool]:
        """Return how far the middle column is seen, whether by all, and whether NaN shows it."""
        poisoned = self.extent(_SHORT, _SHORT // 2, True)
        length = _SHORT if poisoned < _SHORT else _LONG
        profile = self.profile(length, length // 2, False)
        if (changed := self.farthest(profile, length // 2)) < length:
            # Some operations stop NaN, such as a comparison; others spread what a mask hides.
            poisoned = poisoned if length == _SHORT else self.extent(length, length // 2, True)
            return (max(poisoned, changed), False, True) if poisoned < length else (changed, False, False)
        distance = (torch.arange(len(profile)) - length // 2).abs()
        outstanding = distance[profile > 2 * profile[distance > length // 4].max()]
        return int(outstanding.max()) if len(outstanding) else 0, True, False

    def step(self, reach: int, multiple: int) -> tuple[int, bool]:
        """Return the step of origins at which a crop computes as the whole strip does, and whether exactly.

        Where none is exact, the greatest step whose multiples all are better than all other origins by far.
        """
        margin = reach + 64  # the reach is of one column; others of a window may see further
        side = math.ceil((2 * margin + 64) / 192) * math.lcm(192, multiple)
        strip = self.strip(side + 64)
        whole, differences = self.run(strip), {}
        inner = slice(self.probe.scale * margin, self.probe.scale * (side - margin))
        for steps in (_STEPS[:7], _STEPS[7:]):
            for step in (step for step in steps if step % multiple == 0):
                part = self.run(strip[..., step : step + side])[..., inner]
                same = whole[..., self.probe.scale * step :][..., inner]
                differences[step] = float((part - same).abs().mean() / whole.abs().max().clamp_min(1e-30))
                if differences[step] < self.tolerance:
                    return step, True
            if (best := _outstanding_step(differences)) > multiple:
                return best, False
        return multiple, False

    def worst_phase(self, reach: int, period: int, poison: bool) -> int:
        """Return the reach of the column of a period that is seen furthest; of at most 8 columns, rounded up."""
        middle, stride = reach + period + 32, math.ceil(period / 8)
        length = math.ceil(2 * middle / 192) * 192
        columns = range(middle, middle + period, stride)
        return min(reach + period, max(self.extent(length, column, poison) for column in columns) + stride - 1)


def _outstanding_step(differences: dict[int, float]) -> int:
    """Return the greatest step whose multiples all differ four times less than all other origins; 0 if none."""
    for step in sorted(differences, reverse=True):
        on = [value for origin, value in differences.items() if origin % step == 0]
        off = [value for origin, value in differences.items() if origin % step]
        if off and 4 * max(on) < min(off):
            return step
    return 0
