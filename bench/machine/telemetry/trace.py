"""Samples of a run, as data. Missing samples are gaps, and missing sensors have a reason; neither is ever zero."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Kind: TypeAlias = Literal["power", "energy", "temperature", "clock", "load", "throttle"]
Part: TypeAlias = Literal["GPU", "CPU", "all"]
"""Which part of the machine a sensor looks at."""
Window: TypeAlias = tuple[float, float]
"""Start and end in seconds since the start of the trace."""
Samples: TypeAlias = npt.NDArray[np.float64]

UNITS: dict[Kind, str] = {
    "power": "W",
    "energy": "J",
    "temperature": "degC",
    "clock": "MHz",
    "load": "%",
    "throttle": "",
}
"""``energy`` is a counter that only its differences give a meaning; ``throttle`` is 1 while the limit holds, else 0."""


@dataclass(frozen=True, slots=True)
class Series:
    """One sensor over the run."""

    name: str
    """Unique in its trace; of a ``throttle`` series, the reason in words."""
    kind: Kind
    unit: str
    part: Part
    source: str
    """File, call or command that it was read from."""
    values: tuple[float | None, ...]
    """One for each time stamp of the track; None is a gap."""


@dataclass(frozen=True, slots=True)
class Track:
    """Everything from one source, read in sweeps."""

    source: str
    period_s: float
    """Aim for the time between two sweeps."""
    sweep_ms: float
    """Mean time that a sweep took."""
    core_part: float
    """Processor time of the sweeps as a part of one core, without the programs that they ask, such as tegrastats."""
    times_s: tuple[float, ...]
    """Middle of each sweep, in seconds since the start of the trace, on the clock of the timed rounds."""
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        """Refuse a series without a value for each time stamp."""
        for series in self.series:
            if len(series.values) != len(self.times_s):
                raise ValueError(f"{series.name} has {len(series.values)} samples for {len(self.times_s)} times")


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything sampled during one run."""

    tracks: tuple[Track, ...]

    def series(self, kind: Kind) -> Iterator[tuple[Track, Series]]:
        """Return every series of one kind, with the track that has its time stamps."""
        for track in self.tracks:
            yield from ((track, series) for series in track.series if series.kind == kind)

    def find(self, name: str) -> tuple[Track, Series] | None:
        """Return the series with a name; None if there is none."""
        pairs = ((track, series) for track in self.tracks for series in track.series)
        return next((pair for pair in pairs if pair[1].name == name), None)


def samples_within(track: Track, series: Series, windows: Sequence[Window]) -> Samples:
    """Return the values (n,) of a series inside any of the windows, in the order of time, without gaps."""
    times, values = np.array(track.times_s, np.float64), np.array(series.values, np.float64)
    inside = np.zeros(times.shape, bool)
    for start, end in windows:
        inside |= (times >= start) & (times <= end)
    return values[inside & np.isfinite(values)]
