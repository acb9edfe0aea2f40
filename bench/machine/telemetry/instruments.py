"""What can be sampled on this machine: every way of asking, and the reasons of those that do not answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drc_deploy.bench.machine.commands import run_command
from drc_deploy.bench.machine.telemetry import tegrastats
from drc_deploy.bench.machine.telemetry.files import find_cpu_clock, find_gpu_clock, find_limits, find_temperatures
from drc_deploy.bench.machine.telemetry.nvml import find_gpu_sensors
from drc_deploy.bench.machine.telemetry.power_files import find_rails, find_rapl, total_meter
from drc_deploy.bench.machine.telemetry.power_state import PowerState, Run, jetson_release, read_power_state
from drc_deploy.bench.machine.telemetry.sensors import FAST_PERIOD_S, Found, Meter, ProbeGroup, Sensor
from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.machine.nvml import Gpu, LoadNvml, Nvml, load_nvml

EVERYWHERE = (find_temperatures, find_cpu_clock, find_limits)
ON_JETSON, ELSEWHERE = (find_rails, find_gpu_clock), (find_rapl,)


@dataclass(frozen=True, slots=True)
class System:
    """Where to ask. Tests put recorded trees and answers here."""

    root: Path = Path("/")
    run: Run = run_command
    tegrastats: Sequence[str] = tegrastats.COMMAND
    nvml: LoadNvml = load_nvml


@dataclass(slots=True)
class Instruments:
    """Open sources, what they measure together, and how the machine is set."""

    state: PowerState
    sources: list[ProbeGroup] = field(default_factory=list)
    meters: list[Meter] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Missing sensors of this machine -> the reason."""

    @property
    def sensors(self) -> list[Sensor]:
        """Return every sensor of every source."""
        return [sensor for source in self.sources for sensor in source.sensors]

    def close(self) -> None:
        """Close every source."""
        for source in self.sources:
            source.close()


def find_instruments(system: System | None = None) -> Instruments:
    """Open every sensor of this machine. Missing ones are reported as unavailable, with the reason."""
    system = system or System()
    release = jetson_release(system.root)
    sources: list[ProbeGroup] = []
    found, files = Found(), Found()
    gpus = _open_gpus(system, sources, found)
    for find in (*EVERYWHERE, *(ON_JETSON if release else ELSEWHERE)):
        files.merge(find(system.root))
    if files.probes:
        sources.append(ProbeGroup("files", FAST_PERIOD_S, tuple(files.probes)))
    found.merge(files)
    if release and not files.meters:
        _open_tegrastats(system, sources, found)
    state = read_power_state(system.root, release, system.run, gpus)
    return Instruments(state, sources, found.meters, found.missing)


def _open_gpus(system: System, sources: list[ProbeGroup], found: Found) -> tuple[Gpu, ...]:
    """Open NVML; return the GPUs and their limits."""
    try:
        nvml = Nvml(system.nvml)
    except MissingDependencyError as error:
        found.missing["NVML"] = error.message
        return ()
    gpus = nvml.gpus()
    sensors = find_gpu_sensors(nvml)
    found.merge(sensors)
    if sensors.probes:
        sources.append(ProbeGroup("NVML", FAST_PERIOD_S, tuple(sensors.probes), nvml.close))
    else:
        nvml.close()
    return gpus


def _open_tegrastats(system: System, sources: list[ProbeGroup], found: Found) -> None:
    """Fall back to tegrastats where the power monitors show no files, as in some containers."""
    known = {sensor.name for source in sources for sensor in source.sensors}
    try:
        source = tegrastats.open_tegrastats(known, system.tegrastats)
    except MissingDependencyError as error:
        found.missing["tegrastats"] = error.message
        return
    sources.append(source)
    if rails := [sensor.name for sensor in source.sensors if sensor.kind == "power"]:
        found.meters.append(total_meter(rails))
