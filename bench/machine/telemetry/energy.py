"""Energy of an engine's rounds from samples: the trapezoid over power, or the difference of an energy counter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.bench.machine.telemetry.sensors import Meter
from drc_deploy.bench.machine.telemetry.trace import Samples, Trace, Window

GAP_PERIODS = 5.0
"""Two samples further apart than so many periods have a gap between them."""
LEAST_RESOLVED = 2.0
"""Shortest useful round, as a multiple of the meter's resolution."""
LEAST_COVERED = 0.5
"""Less than this part of the rounds sampled says too little about the rest of them."""

METHODS = {
    "power": "trapezoid over sampled power",
    "energy": "difference of the energy counter, interpolated at the ends of each round",
}


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one engine's timed runs. The idle power is not subtracted."""

    per_image_j: float
    mean_power_w: float
    """Over its rounds."""
    idle_power_w: float | None
    """Of the same meter, before any engine was loaded; None when nothing was sampled then."""
    of: str
    """The series that were added up."""
    covers: str
    """What draws this power: module, board, GPU board, CPU package, or a sum of rails."""
    method: str
    covered: float
    """Part of the time of its rounds that samples cover; the rest is taken to have had the mean power."""
    blur: str
    """Why other engines' power is mixed in; empty when the rounds are long enough."""


@dataclass(frozen=True, slots=True)
class Integral:
    """Energy over the covered part of a window."""

    joules: float
    covered_s: float


def integrate_power(times_s: Samples, watts: Samples, window: Window, longest_s: float) -> Integral:
    """Integrate power (n,), NaN where it is unknown, over a window by the trapezoid rule.

    The power between two samples is taken to be linear, also where an end of the window cuts between them. Between
    samples more than ``longest_s`` apart, or next to a NaN, nothing is covered.
    """
    starts, ends = times_s[:-1], times_s[1:]
    low, high = np.maximum(starts, window[0]), np.minimum(ends, window[1])
    known = np.isfinite(watts[:-1]) & np.isfinite(watts[1:])
    keep = known & (high > low) & (ends - starts <= longest_s)
    low, high, starts, ends = low[keep], high[keep], starts[keep], ends[keep]
    first, slope = watts[:-1][keep], (watts[1:][keep] - watts[:-1][keep]) / (ends - starts)
    middle = first + slope * ((low + high) / 2 - starts)
    return Integral(float(np.sum(middle * (high - low))), float(np.sum(high - low)))


def integrate_counter(times_s: Samples, joules: Samples, window: Window, longest_s: float) -> Integral:
    """Return what an energy counter (n,), NaN where it is unknown, rose over a window.

    A gap inside the window loses nothing, since the counter goes on; a gap of more than ``longest_s`` across an end of
    the window is not covered, and neither is where the counter fell because it was reset.
    """
    known = np.isfinite(joules)
    times_s, joules = times_s[known], joules[known]
    starts, ends = times_s[:-1], times_s[1:]
    rise = np.diff(joules)
    low, high = np.maximum(starts, window[0]), np.minimum(ends, window[1])
    inside = (starts >= window[0]) & (ends <= window[1])
    keep = (high > low) & (rise >= 0) & (inside | (ends - starts <= longest_s))
    part = (high[keep] - low[keep]) / (ends[keep] - starts[keep])
    return Integral(float(np.sum(rise[keep] * part)), float(np.sum(high[keep] - low[keep])))


def mean_power(trace: Trace, meter: Meter, windows: Sequence[Window]) -> tuple[float, float] | None:
    """Return a meter's mean power in W over the windows, and which part of them samples cover; None if none of it."""
    total_s = sum(end - start for start, end in windows)
    powers, covered = [], []
    for name in meter.series:
        integrals = _integrals(trace, meter, name, windows)
        covered_s = sum(integral.covered_s for integral in integrals)
        if covered_s <= 0:
            return None
        powers.append(sum(integral.joules for integral in integrals) / covered_s)
        covered.append(covered_s / total_s)
    return sum(powers), min(covered)


def engine_energy(
    trace: Trace, meter: Meter, rounds: Sequence[Window], images: int, idle: Window | None
) -> Energy | str:
    """Return what one image cost over an engine's rounds of ``images`` timed runs together, or why that is unknown."""
    found = mean_power(trace, meter, rounds)
    covered = found[1] if found else 0.0
    if found is None or covered < LEAST_COVERED:
        return f"samples of {' + '.join(meter.series)} cover {covered:.0%} of its rounds"
    if found[0] <= 0:  # as the counters of some virtual machines, which stand still
        return f"{' + '.join(meter.series)} reported no power above zero"
    resting = mean_power(trace, meter, [idle]) if idle else None
    return Energy(
        per_image_j=found[0] * sum(end - start for start, end in rounds) / images,
        mean_power_w=found[0],
        idle_power_w=resting[0] if resting else None,
        of=" + ".join(meter.series),
        covers=meter.covers,
        method=METHODS[meter.kind],
        covered=covered,
        blur=_blur(meter, rounds),
    )


def _blur(meter: Meter, rounds: Sequence[Window]) -> str:
    shortest_s = min(end - start for start, end in rounds)
    if shortest_s >= LEAST_RESOLVED * meter.resolution_s:
        return ""
    return (
        f"its rounds of {shortest_s:.2g} s are short for a meter with a resolution of {meter.resolution_s:g} s, so "
        "that power from before and after is mixed in: measure longer (--min-seconds)"
    )


def _integrals(trace: Trace, meter: Meter, name: str, windows: Sequence[Window]) -> list[Integral]:
    found = trace.find(name)
    if found is None or len(found[0].times_s) < 2:
        return []
    track, series = found
    times, values = np.array(track.times_s, np.float64), np.array(series.values, np.float64)
    integrate = integrate_counter if meter.kind == "energy" else integrate_power
    return [integrate(times, values, window, GAP_PERIODS * track.period_s) for window in windows]
