"""Output of ``tegrastats`` on a Jetson with JetPack 4 to 7; used where the power monitors show no files."""

import re
from collections.abc import Callable, Container, Iterable
from threading import Timer

from drc_deploy.bench.machine.telemetry.commands import TIMEOUT_S, Follow, Lines
from drc_deploy.bench.machine.telemetry.rails import UNUSED
from drc_deploy.bench.machine.telemetry.sensors import FAST_PERIOD_S, Probe, ProbeGroup, Sensor
from drc_deploy.bench.machine.telemetry.trace import Kind, Part
from drc_deploy.errors import MissingDependencyError

COMMAND = ("tegrastats", "--interval", str(round(1000 * FAST_PERIOD_S)))

CORES = re.compile(r"\bCPU \[([^\]]*)\]")
CORE_CLOCK = re.compile(r"%@(\d+)")
GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+))?")
"""``9%``, ``9%@305``, ``9%@[305,305]``, ``@[1000,1000]``; MHz of the first cluster."""
TEMPERATURE = re.compile(r"\b(\w+)@(-?\d+(?:\.\d+)?)C\b")
RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+")
"""``VDD_IN 5079mW/5079mW``, with a third number on JetPack 7, without mW on Nano; the first number is of the moment."""
OFF_DEGREES = -256.0
NOT_RAILS = ("RAM", "SWAP", "IRAM")
"""Fields with a slash that are memory."""

Values = dict[tuple[Kind, str], float]


def parse_line(line: str) -> Values:
    """Return the numbers of one line in W, degrees Celsius, MHz and percent, under their kind and name.

    Fields that a line lacks, and fields of a part that is off, are left out.
    """
    values: Values = {}
    clocks = [int(mhz) for cores in CORES.findall(line) for mhz in CORE_CLOCK.findall(cores)]
    if clocks:
        values["clock", "CPU clock"] = float(max(clocks))
    if gpu := GPU.search(line):
        values |= {("load", "GPU load"): float(gpu[1])} if gpu[1] else {}
        values |= {("clock", "GPU clock"): float(gpu[2])} if float(gpu[2] or 0) else {}  # 0 is a GPU that is off
    for name, degrees in TEMPERATURE.findall(line):
        if float(degrees) > OFF_DEGREES:
            values["temperature", name] = float(degrees)
    for name, milliwatts in RAIL.findall(line):
        if name != UNUSED and name not in NOT_RAILS:
            values["power", name] = int(milliwatts) / 1000
    return values


def open_tegrastats(follow: Follow, known: Container[str]) -> ProbeGroup:
    """Start tegrastats; return it as a source of all its fields but the ``known`` names.

    Raises:
        MissingDependencyError: it is not there, or prints nothing that is known.
    """
    output = follow(COMMAND)
    patience = Timer(TIMEOUT_S, output.close)  # the end of the output, for one that prints nothing
    patience.start()
    try:
        first = parse_line(next(output.lines, ""))
        if not first:
            raise MissingDependencyError("tegrastats prints no line that is known.")
    except BaseException:
        output.close()
        raise
    finally:
        patience.cancel()
    keys = [(kind, name) for kind, name in first if name not in known]
    sensors = tuple(Sensor(name, kind, _part(name), "tegrastats") for kind, name in keys)
    return ProbeGroup("tegrastats", FAST_PERIOD_S, (Probe(sensors, _reader(output, keys)),), output.close, waits=True)


def _reader(output: Lines, keys: Iterable[tuple[Kind, str]]) -> Callable[[], list[float | None]]:
    def read() -> list[float | None]:
        try:
            line = next(output.lines)
        except (StopIteration, ValueError, OSError) as error:
            raise EOFError("tegrastats ended") from error
        values = parse_line(line)
        return [values.get(key) for key in keys]

    return read


def _part(name: str) -> Part:
    lower = name.lower()
    return "GPU" if lower.startswith("gpu") else "CPU" if lower.startswith("cpu") else "all"
