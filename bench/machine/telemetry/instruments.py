"""What can be sampled on this machine: every way of asking, and the reasons of those that do not answer."""

from dataclasses import dataclass, field
from pathlib import Path

from drc_deploy.bench.machine.nvml import Gpu, LoadNvml, Nvml, load_nvml
from drc_deploy.bench.machine.telemetry.commands import Follow, Run, follow_command, run_command
from drc_deploy.bench.machine.telemetry.files import find_cpu_clock, find_gpu_clock, find_limits, find_temperatures
from drc_deploy.bench.machine.telemetry.jetson import Release, jetson_release
from drc_deploy.bench.machine.telemetry.nvml import find_gpu_sensors
from drc_deploy.bench.machine.telemetry.power_state import PowerState, read_power_state
from drc_deploy.bench.machine.telemetry.rails import find_rails, total_meter
from drc_deploy.bench.machine.telemetry.rapl import find_rapl
from drc_deploy.bench.machine.telemetry.sensors import FAST_PERIOD_S, Found, Meter, ProbeGroup, Sensor
from drc_deploy.bench.machine.telemetry.tegrastats import open_tegrastats
from drc_deploy.errors import MissingDependencyError


@dataclass(frozen=True, slots=True)
class System:
    """Where to ask. Tests put recorded trees and answers here."""

    root: Path = Path("/")
    run: Run = run_command
    follow: Follow = follow_command
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
    found: list[Found] = []
    limits = _open_gpus(system, sources, found)
    files = _find_files(system.root, release)
    found += files
    probes = tuple(probe for item in files for probe in item.probes)
    if probes:
        sources.append(ProbeGroup("files", FAST_PERIOD_S, probes))
    if release and not any(item.meters for item in files):
        _open_tegrastats(system, sources, found)
    instruments = Instruments(read_power_state(system.root, release, system.run, limits), sources)
    for item in found:
        instruments.meters += item.meters
        instruments.missing |= item.missing
    return instruments


def _find_files(root: Path, release: Release | None) -> list[Found]:
    found = [find_temperatures(root), find_cpu_clock(root), find_limits(root)]
    return [*found, find_rails(root), find_gpu_clock(root)] if release else [*found, find_rapl(root)]


def _open_gpus(system: System, sources: list[ProbeGroup], found: list[Found]) -> tuple[Gpu, ...]:
    """Open NVML; return the GPUs and their limits."""
    try:
        nvml = Nvml(system.nvml)
    except MissingDependencyError as error:
        found.append(Found(missing={"NVML": error.message}))
        return ()
    gpus = nvml.gpus()
    item = find_gpu_sensors(nvml)
    found.append(item)
    if item.probes:
        sources.append(ProbeGroup("NVML", FAST_PERIOD_S, tuple(item.probes), nvml.close))
    else:
        nvml.close()
    return gpus


def _open_tegrastats(system: System, sources: list[ProbeGroup], found: list[Found]) -> None:
    """Fall back to tegrastats where the power monitors show no files, as in some containers."""
    known = {sensor.name for source in sources for sensor in source.sensors}
    try:
        source = open_tegrastats(system.follow, known)
    except MissingDependencyError as error:
        found.append(Found(missing={"tegrastats": error.message}))
        return
    sources.append(source)
    rails = [sensor.name for sensor in source.sensors if sensor.kind == "power"]
    found.append(Found(meters=[total_meter(rails)] if rails else []))
