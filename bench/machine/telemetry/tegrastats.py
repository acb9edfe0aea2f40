"""Output of ``tegrastats`` on a Jetson with JetPack 4 to 7; used where the power monitors show no files."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Container, Sequence
from threading import Lock, Timer

from drc_deploy.bench.machine.commands import TIMEOUT_S
from drc_deploy.bench.machine.telemetry.power_files import UNUSED
from drc_deploy.bench.machine.telemetry.sensors import FAST_PERIOD_S, Probe, ProbeGroup, Sensor, part_of
from drc_deploy.bench.machine.telemetry.trace import Kind
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
NOT_RAILS = (UNUSED, "RAM", "SWAP", "IRAM")
"""Fields with a slash that are no rails: memory, and a channel that is not connected."""

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
        if name not in NOT_RAILS:
            values["power", name] = int(milliwatts) / 1000
    return values


def open_tegrastats(known: Container[str], command: Sequence[str] = COMMAND) -> ProbeGroup:
    """Start tegrastats; return it as a source of all its fields but the ``known`` names.

    Raises:
        MissingDependencyError: it is not there, or prints nothing that is known.
    """
    program = _Program(command)
    patience = Timer(TIMEOUT_S, program.close)  # the end of the output, for one that prints nothing
    patience.start()
    try:
        first = parse_line(program.read_line())
    except EOFError:
        first = {}
    finally:
        patience.cancel()
    if not first:
        program.close()
        raise MissingDependencyError("tegrastats prints no line that is known.")
    keys = [(kind, name) for kind, name in first if name not in known]
    sensors = tuple(Sensor(name, kind, part_of(name), "tegrastats") for kind, name in keys)

    def read() -> list[float | None]:
        values = parse_line(program.read_line())
        return [values.get(key) for key in keys]

    return ProbeGroup("tegrastats", FAST_PERIOD_S, (Probe(sensors, read),), program.close, waits=True)


class _Program:
    """A program that prints lines until it is closed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._closing = Lock()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,  # so that all that it starts can be ended
            )
        except OSError as error:
            raise MissingDependencyError("tegrastats does not run on this machine.") from error

    def read_line(self) -> str:
        assert self._process.stdout
        line = ""
        with contextlib.suppress(ValueError):  # another thread has just closed it
            line = self._process.stdout.readline()
        if not line:
            raise EOFError("tegrastats ended")
        return line

    def close(self) -> None:
        assert self._process.stdout
        with self._closing:  # the timer and the thread that reads may both close
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process.stdout.close()
