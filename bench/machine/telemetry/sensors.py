"""Sensors, grouped into probes that are asked at once, which are grouped into sources that are read in one thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from drc_deploy.bench.machine.telemetry.trace import Kind, Part
from drc_deploy.errors import DrcDeployError

FAST_PERIOD_S = 0.1
"""Ten sweeps a second: what a file or a library call bears without showing in the latencies."""

READ_ERRORS = (OSError, ValueError, DrcDeployError)
"""What a probe may raise; each of its sensors has a gap then."""


MeterKind: TypeAlias = Literal["power", "energy"]


@dataclass(frozen=True, slots=True)
class Sensor:
    """What one number means; ``Series`` explains the fields."""

    name: str
    kind: Kind
    part: Part
    source: str


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to the machine that answers for one or more sensors."""

    sensors: tuple[Sensor, ...]
    read: Callable[[], Sequence[float | None]]
    """Returns a value for each sensor in the unit of its kind. Raises ``READ_ERRORS``, and EOFError at the end."""

    @property
    def name(self) -> str:
        """Return the name of the first sensor."""
        return self.sensors[0].name

    def sample(self) -> tuple[Sequence[float | None], str]:
        """Ask once; return a value for each sensor, and why all of them are None (empty if they are not)."""
        try:
            return self.read(), ""
        except READ_ERRORS as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return [None] * len(self.sensors), text.rstrip(".")


@dataclass(frozen=True, slots=True)
class ProbeGroup:
    """Probes that are read together, in a thread of their own."""

    name: str
    period_s: float
    probes: tuple[Probe, ...]
    close: Callable[[], None] = lambda: None
    waits: bool = False
    """Reading waits for the next value, which is then of that moment: the source itself has the beat."""

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """Return all sensors in the order of ``sweep``."""
        return tuple(sensor for probe in self.probes for sensor in probe.sensors)

    def sweep(self, reasons: dict[str, str]) -> list[float | None]:
        """Read every sensor once; a value that cannot be had is None, and why is set in ``reasons`` under its name.

        Raises:
            EOFError: the source has ended.
        """
        row: list[float | None] = []
        for probe in self.probes:
            values, fault = probe.sample()
            row.extend(values)
            if fault:
                reasons.update({sensor.name: fault for sensor in probe.sensors})
        return row


@dataclass(frozen=True, slots=True)
class Meter:
    """The series that add up to the energy of an engine."""

    covers: str
    """What draws this power: module, board, GPU board, CPU package, or a sum of rails."""
    part: Part
    """Whose work it covers: engines on a GPU, on the CPU, or all."""
    kind: MeterKind
    series: tuple[str, ...]
    """Names of the series that are added up."""
    resolution_s: float = FAST_PERIOD_S
    """Its resolution in time: the time between two values, or over which each is averaged."""


@dataclass(slots=True)
class Found:
    """Everything that one kind of source offers on this machine."""

    probes: list[Probe] = field(default_factory=list)
    meters: list[Meter] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """What it could not find -> why."""

    def add(self, what: str, probe: Probe) -> None:
        """Keep a probe if it answers; otherwise record why ``what`` is missing."""
        if fault := probe.sample()[1]:
            self.missing[what] = fault
        else:
            self.probes.append(probe)

    def merge(self, other: "Found") -> None:
        """Add everything that ``other`` offers."""
        self.probes += other.probes
        self.meters += other.meters
        self.missing |= other.missing


def single(name: str, kind: Kind, part: Part, source: str, read: Callable[..., float], *arguments: object) -> Probe:
    """Return a probe of one sensor, which calls ``read`` with the arguments."""
    return Probe((Sensor(name, kind, part, source),), lambda: (read(*arguments),))


def file_number(path: Path, factor: float = 1.0) -> float:
    """Read a file that holds one number, and return that times ``factor``.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    with path.open("rb", buffering=0) as stream:
        return float(stream.read(64)) * factor


def rise_in(path: Path) -> Callable[[], float]:
    """Return a reader of the change of a file's number since the last reading; 0 at the first one."""
    last: float | None = None

    def read() -> float:
        nonlocal last
        number = file_number(path)
        rise = 0.0 if last is None else number - last
        last = number
        return rise

    return read


def part_of(name: str) -> Part:
    """Return the part of the machine that a sensor's name begins with."""
    lower = name.lower()
    return "GPU" if lower.startswith("gpu") else "CPU" if lower.startswith(("cpu", "x86_pkg")) else "all"


def numbered(names: Sequence[str]) -> list[str]:
    """Make names unique: the second ``x`` becomes ``x 2``."""
    return [name if names.index(name) == i else f"{name} {names[: i + 1].count(name)}" for i, name in enumerate(names)]
