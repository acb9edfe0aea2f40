"""Sensors of NVIDIA GPUs, read through NVML."""

from collections.abc import Callable, Sequence
from typing import Any

from drc_deploy.bench.machine.telemetry.sensors import FAST_PERIOD_S, Found, Meter, Probe, Sensor, single
from drc_deploy.bench.machine.telemetry.trace import Kind
from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.machine.nvml import Nvml

LIMITS = {
    "nvmlClocksEventReasonSwPowerCap": "software power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "software thermal slowdown",
    "nvmlClocksEventReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "external power brake",
    "nvmlClocksEventReasonSyncBoost": "clocks kept equal in a group of GPUs",
    "nvmlClocksThrottleReasonBoardLimit": "board limit",
    "nvmlClocksThrottleReasonReliability": "reliability limit",
}
"""Constant of a bit -> words. Idle clocks and clocks that a person has set are no throttling."""

TEMPERATURE = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
"""New names, and old ones for older drivers."""

AVERAGED_SOURCE = "nvmlDeviceGetPowerUsage, averaged over a second on many GPUs"
AVERAGED_S = 1.0


def find_gpu_sensors(nvml: Nvml) -> Found:
    """Find the sensors of every GPU, and their meter."""
    found = Found()
    for index, handle in enumerate(nvml.handles):
        name = f"GPU {index}" if len(nvml.handles) > 1 else "GPU"
        for probe in _gpu_probes(nvml, handle, name):
            found.add(f"{probe.sensors[0].kind} of the {name}", probe)
    found.meters += _meters([sensor for probe in found.probes for sensor in probe.sensors], len(nvml.handles))
    return found


def _gpu_probes(nvml: Nvml, handle: Any, name: str) -> list[Probe]:
    """Return every probe of one GPU, whether it answers or not."""

    def probe(kind: Kind, source: str, read: Callable[[], Any]) -> Probe:
        return single(f"{name} {kind}", kind, "GPU", source, lambda: float(read()))

    def call(function: str, *arguments: Any) -> Any:
        return nvml.call(function, handle, *arguments)

    power = probe("power", "NVML field POWER_INSTANT", lambda: _power_w(nvml, handle))
    if power.sample()[1]:
        power = probe("power", AVERAGED_SOURCE, lambda: call("nvmlDeviceGetPowerUsage") / 1000)
    energy, load = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUtilizationRates"
    return [
        power,
        probe("energy", energy, lambda: call(energy) / 1000),
        probe("temperature", "NVML temperature", lambda: _first(nvml, TEMPERATURE, handle, "NVML_TEMPERATURE_GPU")),
        probe("clock", "nvmlDeviceGetClockInfo of the SM", lambda: call("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM")),
        probe("load", load, lambda: call(load).gpu),
        _limit_probe(nvml, handle, name),
    ]


def _power_w(nvml: Nvml, handle: Any) -> float:
    """Return the power at this moment; ``nvmlDeviceGetPowerUsage`` is averaged over a second on many GPUs."""
    field_id = nvml.pynvml.NVML_FI_DEV_POWER_INSTANT
    (field,) = nvml.call("nvmlDeviceGetFieldValues", handle, [field_id])
    if field.nvmlReturn != 0:
        raise MissingDependencyError("NVML: the power of the moment is not supported.")
    return float(field.value.uiVal) / 1000


def _limit_probe(nvml: Nvml, handle: Any, name: str) -> Probe:
    """Return the probe of all throttle reasons, which NVML returns as bits of one number."""
    # An older package lacks some of the bits.
    bits = {words: bit for constant, words in LIMITS.items() if (bit := getattr(nvml.pynvml, constant, 0))}
    sensors = tuple(Sensor(f"{name}: {words}", "throttle", "GPU", "NVML clock event reasons") for words in bits)

    def read() -> Sequence[float]:
        held = int(_first(nvml, REASONS, handle))
        return [float(bool(held & bit)) for bit in bits.values()]

    return Probe(sensors, read)


def _first(nvml: Nvml, names: tuple[str, str], *arguments: Any) -> Any:
    """Call a function by its new name, or by the old one where the driver or the package is older."""
    try:
        return nvml.call(names[0], *arguments)
    except MissingDependencyError:
        return nvml.call(names[1], *arguments)


def _meters(sensors: Sequence[Sensor], gpus: int) -> list[Meter]:
    """Prefer the energy counter: it misses nothing between two samples. All GPUs together: any may be the one used."""
    counters = tuple(sensor.name for sensor in sensors if sensor.kind == "energy")
    if len(counters) == gpus:
        return [Meter("GPU board", "GPU", "energy", counters)]
    powers = tuple(sensor.name for sensor in sensors if sensor.kind == "power")
    if len(powers) < gpus:
        return []
    averaged = any(sensor.source == AVERAGED_SOURCE for sensor in sensors)
    return [Meter("GPU board", "GPU", "power", powers, AVERAGED_S if averaged else FAST_PERIOD_S)]
