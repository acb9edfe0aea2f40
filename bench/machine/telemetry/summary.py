"""Telemetry in a report: the trace of the run, and a summary for each engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drc_deploy.bench.machine.memory import is_gpu
from drc_deploy.bench.machine.telemetry.energy import Energy, engine_energy
from drc_deploy.bench.machine.telemetry.power_state import PowerState
from drc_deploy.bench.machine.telemetry.sensors import Meter, Sensor
from drc_deploy.bench.machine.telemetry.throttling import ClockDrop, clock_drops, throttle_reasons
from drc_deploy.bench.machine.telemetry.trace import Kind, Part, Trace, Window, samples_within

WORDS: dict[Kind, str] = {
    "power": "power",
    "temperature": "temperature",
    "clock": "clocks",
    "throttle": "throttling",
}
"""Kinds that every report covers; energy counts as power."""
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
        why = telemetry.unavailable.get(WORDS["throttle"], "no sample fell into its rounds")
        unavailable["throttle_reasons"] = why
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
        reasons = (
            telemetry.unavailable.get(what)
            for what in (WORDS["power"], f"energy of the {part}", "NVML" if part == "GPU" else part)
        )
        return next((why for why in reasons if why), f"no sensor reports the power of the {part}")
    return engine_energy(telemetry.trace, meter, rounds, images, telemetry.idle_s)


def _temperatures(trace: Trace, rounds: Sequence[Window]) -> list[TemperatureRange]:
    ranges = []
    for track, series in trace.series("temperature"):
        values = samples_within(track, series, rounds)
        if values.size:
            ranges.append(TemperatureRange(series.name, float(values.min()), float(values.max())))
    return ranges


def missing_kinds(sensors: Sequence[Sensor], missing: dict[str, str]) -> dict[str, str]:
    """Return the kinds (in the words of ``WORDS``) that no sensor reports, with the reasons."""
    kinds = {"power" if sensor.kind == "energy" else sensor.kind for sensor in sensors}
    return {word: _why(kind, missing) for kind, word in WORDS.items() if kind not in kinds}


def _why(kind: Kind, missing: dict[str, str]) -> str:
    """Join the reasons of one kind with those of whole ways of asking, such as a driver that is not there."""
    reasons = [why for what, why in missing.items() if what.startswith(_same(kind)) or what in WAYS]
    return _join(reasons) or "no sensor of this machine reports it"


def sensors_of(sensors: Sequence[Sensor], kind: Kind) -> str:
    """Name the sensors of a kind, energy with power."""
    return ", ".join(sensor.name for sensor in sensors if sensor.kind in _same(kind))


def _same(kind: Kind) -> tuple[str, ...]:
    return {"power": ("power", "energy"), "throttle": ("throttle", "throttling")}.get(kind, (kind,))


def describe(trace: Trace, meters: Sequence[Meter], missing: dict[str, str]) -> str:
    """Say in one sentence what was sampled, how often and at what cost, or that nothing could be, and why."""
    tracks = [track for track in trace.tracks if track.series]
    if not tracks:
        return f"No sensors for power, temperature or clocks: {_join(missing.values())}."
    kinds = dict.fromkeys(series.kind for track in tracks for series in track.series)
    power = [f"power of {meter.covers} ({' + '.join(meter.series)})" for meter in meters]
    what = [_count(trace, kind) for kind in kinds if kind in WORDS and not (power and kind == "power")]
    rates = ", ".join(f"{track.source} {1 / track.period_s:g} times a second" for track in tracks)
    cost = sum(track.core_part for track in tracks)
    return f"Sampled {', '.join(power + what)}: {rates}, at a cost of {cost:.2%} of one core."


def _count(trace: Trace, kind: Kind) -> str:
    count = sum(1 for _ in trace.series(kind))
    noun = {"power": "rail", "temperature": "temperature", "clock": "clock", "throttle": "limit"}[kind]
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _join(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reason.rstrip(".") for reason in reasons))
