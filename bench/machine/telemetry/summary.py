"""Telemetry in a report: the trace of the run, and a summary for each engine."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from drc_deploy.bench.machine.memory import is_gpu
from drc_deploy.bench.machine.telemetry.energy import Energy, engine_energy
from drc_deploy.bench.machine.telemetry.power_state import PowerState
from drc_deploy.bench.machine.telemetry.sensors import Meter, Sensor
from drc_deploy.bench.machine.telemetry.trace import Kind, Part, Trace, Window, samples_within

KINDS: dict[str, tuple[str, ...]] = {
    "power": ("power", "energy"),
    "temperature": ("temperature",),
    "clocks": ("clock",),
    "throttling": ("throttl",),
}
"""What every report covers -> beginnings of the kinds of its sensors, and of the reasons why some are missing."""
NOUNS: dict[Kind, str] = {"power": "rail", "temperature": "temperature", "clock": "clock", "throttle": "limit"}
CLOCK_DROP = 0.05
"""A clock that fell by more than this part while it was at work was throttled."""
WAYS = ("NVML", "tegrastats")
"""Keys of ``unavailable`` that stand for a whole way of asking."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Everything sampled during one run."""

    summary: str
    """In one sentence."""
    state: PowerState
    meters: tuple[Meter, ...]
    """Which series add up to the power of what."""
    idle_s: Window | None
    """When nothing ran yet, for the idle power; None when no power could be read."""
    trace: Trace
    unavailable: dict[str, str]
    """Missing sensors of this machine -> the reason."""
    notes: tuple[str, ...]
    """Sentences about gaps."""


@dataclass(frozen=True, slots=True)
class TemperatureRange:
    """One sensor while an engine was timed."""

    sensor: str
    lowest_c: float
    highest_c: float


@dataclass(frozen=True, slots=True)
class ClockDrop:
    """A clock that fell."""

    clock: str
    from_mhz: float
    to_mhz: float


@dataclass(frozen=True, slots=True)
class EngineTelemetry:
    """What was sampled in the timed rounds of one engine. A field that is None has its reason in ``unavailable``."""

    rounds_s: tuple[Window, ...]
    """Start and end of each round, in seconds since the start of the trace."""
    energy: Energy | None
    temperatures: tuple[TemperatureRange, ...]
    throttle_reasons: tuple[str, ...] | None
    clock_drops: tuple[ClockDrop, ...]
    """Clocks of the part that computed, where they fell while it was at work."""
    unavailable: dict[str, str]


def summarise_engine(telemetry: Telemetry, rounds: Sequence[Window], images: int, device: str) -> EngineTelemetry:
    """Return what the trace says of an engine that ran ``images`` times in its rounds, on ``device`` as it calls it."""
    unavailable: dict[str, str] = {}
    part: Part = "GPU" if is_gpu(device) else "CPU"
    energy = _energy(telemetry, rounds, images, part)
    if isinstance(energy, str):
        unavailable["energy"] = energy
    reasons = throttle_reasons(telemetry.trace, rounds)
    if reasons is None:
        unavailable["throttle_reasons"] = telemetry.unavailable.get("throttling", "no sample fell into its rounds")
    return EngineTelemetry(
        rounds_s=tuple(rounds),
        energy=None if isinstance(energy, str) else energy,
        temperatures=tuple(_temperatures(telemetry.trace, rounds)),
        throttle_reasons=reasons,
        clock_drops=clock_drops(telemetry.trace, rounds, part),
        unavailable=unavailable,
    )


def engine_warnings(name: str, telemetry: EngineTelemetry) -> list[str]:
    """Return warnings about throttling while the engine ``name`` was timed, and about blurred energy."""
    warnings = []
    if telemetry.throttle_reasons:
        warnings.append(f"The machine was throttled while {name} was timed: {', '.join(telemetry.throttle_reasons)}.")
    if telemetry.clock_drops:
        drops = [f"{drop.clock} from {drop.from_mhz:.0f} to {drop.to_mhz:.0f} MHz" for drop in telemetry.clock_drops]
        warnings.append(f"Clocks fell while {name} was timed: {', '.join(drops)}. Lock them, or cool the machine.")
    if telemetry.energy and telemetry.energy.blur:
        warnings.append(f"The energy of {name} includes that of other engines: {telemetry.energy.blur}.")
    return warnings


def choose_meter(meters: Sequence[Meter], part: Part) -> Meter | None:
    """Return the meter for an engine that runs on a part of the machine: one that covers everything comes first."""
    return next((meter for wanted in ("all", part) for meter in meters if meter.part == wanted), None)


def _energy(telemetry: Telemetry, rounds: Sequence[Window], images: int, part: Part) -> Energy | str:
    meter = choose_meter(telemetry.meters, part)
    if meter is None:
        reasons = telemetry.unavailable
        asked = ("power", f"energy of the {part}", *(["NVML"] if part == "GPU" else []))
        return next((reasons[what] for what in asked if what in reasons), f"no sensor reports the power of the {part}")
    return engine_energy(telemetry.trace, meter, rounds, images, telemetry.idle_s)


def _temperatures(trace: Trace, rounds: Sequence[Window]) -> Iterator[TemperatureRange]:
    for track, series in trace.series("temperature"):
        values = samples_within(track, series, rounds)
        if values.size:
            yield TemperatureRange(series.name, float(values.min()), float(values.max()))


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
        clock = samples_within(track, series, windows)
        if series.part != part or clock.size < 3 or clock.min() <= 0:
            continue
        smooth = np.median(np.stack([clock[:-2], clock[1:-1], clock[2:]]), axis=0)
        peaks = np.maximum.accumulate(smooth)
        at = int(np.argmin(smooth / peaks))
        if smooth[at] < (1 - CLOCK_DROP) * peaks[at]:
            drops.append(ClockDrop(series.name, float(peaks[at]), float(smooth[at])))
    return tuple(drops)


def missing_kinds(sensors: Sequence[Sensor], missing: dict[str, str]) -> dict[str, str]:
    """Return which of ``KINDS`` no sensor reports, with the reasons: those of whole ways of asking too."""
    unavailable = {}
    for word, starts in KINDS.items():
        if not any(sensor.kind.startswith(starts) for sensor in sensors):
            reasons = [why for what, why in missing.items() if what.startswith(starts) or what in WAYS]
            unavailable[word] = _join(reasons) or "no sensor of this machine reports it"
    return unavailable


def describe(trace: Trace, meters: Sequence[Meter], missing: dict[str, str]) -> str:
    """Say in one sentence what was sampled, how often and at what cost, or that nothing could be, and why."""
    tracks = [track for track in trace.tracks if track.series]
    if not tracks:
        return f"No sensors for power, temperature or clocks: {_join(missing.values())}."
    counts = Counter(series.kind for track in tracks for series in track.series)
    what = [f"power of {meter.covers} ({' + '.join(meter.series)})" for meter in meters]
    if what:
        del counts["power"]
    what += [f"{count} {NOUNS[kind]}{'s' * (count > 1)}" for kind, count in counts.items() if kind in NOUNS]
    rates = ", ".join(f"{track.source} {1 / track.period_s:g} times a second" for track in tracks)
    cost = sum(track.core_part for track in tracks)
    return f"Sampled {', '.join(what)}: {rates}, at a cost of {cost:.2%} of one core."


def _join(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reason.rstrip(".") for reason in reasons))
