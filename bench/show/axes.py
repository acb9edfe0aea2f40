"""Axes of a chart: from values to positions, and where the ticks go."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_FROM_RATIO = 8.0
"""Values that span more than this factor get a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps ``low``..``high`` to the positions ``start``..``stop``, which may run backwards."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def position(self, value: float) -> float:
        """Return where ``value`` lies."""
        low, high = self._scale(self.low), self._scale(self.high)
        return self.start + (self._scale(value) - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return about five round values within the axis."""
        return _log_ticks(self.low, self.high) if self.logarithmic else _linear_ticks(self.low, self.high)

    def _scale(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def fit_axis(values: Sequence[float], start: float, stop: float, *, may_be_log: bool = False) -> Axis:
    """Return an axis that holds all ``values`` with some air on both sides."""
    low, high = min(values), max(values)
    if may_be_log and low > 0 and high / low > LOG_FROM_RATIO:
        return Axis(low / 1.3, high * 1.3, start, stop, logarithmic=True)
    air = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - air, high + air, start, stop)


def _linear_ticks(low: float, high: float) -> list[float]:
    step = _round_step((high - low) / 5)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in values if low <= value <= high]
