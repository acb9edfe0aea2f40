"""Energy of an engine's rounds from samples: the trapezoid over power, or the difference of an energy counter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.bench.machine.telemetry.sensors import Meter, MeterKind
from drc_deploy.bench.machine.telemetry.trace import Samples, Trace, Window

GAP_PERIODS = 5.0
"""Two samples further apart than so many periods have a gap between them."""
LEAST_RESOLVED = 2.0
"""Shortest useful round, as a multiple of the meter's resolution."""
LEAST_COVERED = 0.5
"""Less than this part of the rounds sampled says too little about the rest of them."""

METHODS: dict[MeterKind, str] = {
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


def integrate(
    kind: MeterKind, times_s: Samples, values: Samples, window: Window, longest_s: float
) -> tuple[float, float]:
    """Return the energy in J over the covered part of a window, and the seconds of that part.

    Power is linear between two samples, also where an end of the window cuts between them. Between samples more than
    ``longest_s`` apart, or next to a NaN, nothing is covered. A counter loses nothing in a gap inside the window, since
    it goes on. A long gap across an end of the window is not covered, nor is a fall of the counter, which was reset.

    Args:
        kind: What the values are: power in W, or a counter of J.
        times_s: Time of each value (n,).
        values: (n,), NaN where unknown.
        window: Start and end.
        longest_s: Time between two samples from which there is a gap.
    """
    if kind == "energy":
        known = np.isfinite(values)
        times_s, values = times_s[known], values[known]
    starts, ends, first, rise = times_s[:-1], times_s[1:], values[:-1], np.diff(values)
    low, high = np.maximum(starts, window[0]), np.minimum(ends, window[1])
    covered = ends - starts <= longest_s
    if kind == "energy":
        covered |= (starts >= window[0]) & (ends <= window[1])
        covered &= rise >= 0
    keep = covered & (high > low) & np.isfinite(rise)
    low, high, starts, first = low[keep], high[keep], starts[keep], first[keep]
    slope = rise[keep] / (ends[keep] - starts)
    power = slope if kind == "energy" else first + slope * ((low + high) / 2 - starts)
    return float(np.sum(power * (high - low))), float(np.sum(high - low))


def mean_power(trace: Trace, meter: Meter, windows: Sequence[Window]) -> tuple[float, float] | None:
    """Return a meter's mean power in W over the windows, and which part of them samples cover; None if none of it."""
    total_s = sum(end - start for start, end in windows)
    power, least = 0.0, 1.0
    for name in meter.series:
        found = trace.find(name)
        if found is None:
            return None
        track, series = found
        times, values = np.array(track.times_s, np.float64), np.array(series.values, np.float64)
        parts = [integrate(meter.kind, times, values, window, GAP_PERIODS * track.period_s) for window in windows]
        covered_s = sum(seconds for _, seconds in parts)
        if covered_s <= 0:
            return None
        power += sum(joules for joules, _ in parts) / covered_s
        least = min(least, covered_s / total_s)
    return power, least


def engine_energy(
    trace: Trace, meter: Meter, rounds: Sequence[Window], images: int, idle: Window | None
) -> Energy | str:
    """Return what one image cost over an engine's rounds of ``images`` timed runs together, or why that is unknown."""
    of = " + ".join(meter.series)
    power, covered = mean_power(trace, meter, rounds) or (0.0, 0.0)
    if covered < LEAST_COVERED:
        return f"samples of {of} cover {covered:.0%} of its rounds"
    if power <= 0:  # as the counters of some virtual machines, which stand still
        return f"{of} reported no power above zero"
    resting = mean_power(trace, meter, [idle]) if idle else None
    return Energy(
        per_image_j=power * sum(end - start for start, end in rounds) / images,
        mean_power_w=power,
        idle_power_w=resting[0] if resting else None,
        of=of,
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
