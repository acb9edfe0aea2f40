"""Throttling: limits that the machine reports, and clocks that fell while an engine ran."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.bench.machine.telemetry.trace import Part, Samples, Trace, Window, samples_within

CLOCK_DROP = 0.05
"""A clock that fell by more than this part while it was at work was throttled."""


@dataclass(frozen=True, slots=True)
class ClockDrop:
    """A clock that fell."""

    clock: str
    from_mhz: float
    to_mhz: float

    @property
    def part(self) -> float:
        """Return by which part it fell."""
        return 1 - self.to_mhz / self.from_mhz


def throttle_reasons(trace: Trace, windows: Sequence[Window]) -> tuple[str, ...] | None:
    """Return the limits that held at any sample inside the windows; None when there is no sample."""
    held = {series.name: samples_within(track, series, windows) for track, series in trace.series("throttle")}
    if not any(values.size for values in held.values()):
        return None
    return tuple(name for name, values in held.items() if np.any(values > 0))


def clock_drops(trace: Trace, windows: Sequence[Window], part: Part) -> tuple[ClockDrop, ...]:
    """Return the clocks of one part of the machine that fell by more than ``CLOCK_DROP`` inside the windows.

    The windows must be those in which that part was busy: an idle clock falls for other reasons. A drop is from the
    highest value to the lowest one after it, both medians of three neighbours, so that one stray sample is none.
    """
    drops = []
    for track, series in trace.series("clock"):
        if series.part == part and (drop := _deepest(samples_within(track, series, windows))):
            drops.append(ClockDrop(series.name, *drop))
    return tuple(drop for drop in drops if drop.part > CLOCK_DROP)


def _deepest(clock: Samples) -> tuple[float, float] | None:
    """Return the highest value and the lowest one after it where they lie furthest apart as a ratio."""
    if clock.size < 3 or clock.min() <= 0:
        return None
    smooth = np.median(np.stack([clock[:-2], clock[1:-1], clock[2:]]), axis=0)
    peaks = np.maximum.accumulate(smooth)
    at = int(np.argmin(smooth / peaks))
    return float(peaks[at]), float(smooth[at])
