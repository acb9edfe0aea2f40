"""Sensors of NVIDIA GPUs, read through NVML."""

from collections.abc import Callable, Sequence
from typing import Any

from drc_deploy.bench.machine.nvml import Nvml
from drc_deploy.bench.machine.telemetry.sensors import (
    FAST_PERIOD_S,
    Found,
    Meter,
    Probe,
    ProbeGroup,
    Sensor,
    answers,
    single,
)
from drc_deploy.bench.machine.telemetry.trace import Kind
from drc_deploy.errors import MissingDependencyError

LIMITS = {
    "SwPowerCap": "software power cap",
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "software thermal slowdown",
    "HwThermalSlowdown": "hardware thermal slowdown",
    "HwPowerBrakeSlowdown": "external power brake",
    "SyncBoost": "clocks kept equal in a group of GPUs",
    "BoardLimit": "board limit",
    "Reliability": "reliability limit",
}
"""End of the constant's name -> words. Idle clocks and clocks that a person has set are no throttling."""
LIMIT_PREFIXES = ("nvmlClocksEventReason", "nvmlClocksThrottleReason")
"""The new name and the old one, for older drivers."""

AVERAGED_SOURCE = "nvmlDeviceGetPowerUsage, averaged over a second on many GPUs"
AVERAGED_S = 1.0


def open_nvml(nvml: Nvml) -> tuple[ProbeGroup, Found]:
    """Return the sensors of every GPU as a source, and its meter."""
    probes: list[Probe] = []
    missing: dict[str, str] = {}
    for index, handle in enumerate(nvml.handles):
        name = f"GPU {index}" if len(nvml.handles) > 1 else "GPU"
        for probe in _gpu_probes(nvml, handle, name):
            if (reason := answers(probe)) is None:
                probes.append(probe)
            else:
                missing[f"{probe.sensors[0].kind} of the {name}"] = reason
    meters = _meters([sensor for probe in probes for sensor in probe.sensors], len(nvml.handles))
    return ProbeGroup("NVML", FAST_PERIOD_S, tuple(probes), nvml.close), Found((), meters, missing)


def _gpu_probes(nvml: Nvml, handle: Any, name: str) -> list[Probe]:
    """Return every probe of one GPU, whether it answers or not."""

    def probe(kind: Kind, source: str, read: Callable[[Nvml, Any], float]) -> Probe:
        return single(Sensor(f"{name} {kind}", kind, "GPU", source), lambda: read(nvml, handle))

    power = probe("power", "NVML field POWER_INSTANT", _power_w)
    if answers(power):
        power = probe("power", AVERAGED_SOURCE, _average_power_w)
    probes = [
        power,
        probe("energy", "nvmlDeviceGetTotalEnergyConsumption", _energy_j),
        probe("temperature", "NVML temperature", _temperature_c),
        probe("clock", "nvmlDeviceGetClockInfo of the SM", _clock_mhz),
        probe("load", "nvmlDeviceGetUtilizationRates", _load_percent),
    ]
    bits = limit_bits(nvml.pynvml)
    return [*probes, _limit_probe(nvml, handle, name, bits)] if bits else probes


def _power_w(nvml: Nvml, handle: Any) -> float:
    """Return the power at this moment; ``_average_power_w`` is averaged over a second on many GPUs."""
    field_id = nvml.pynvml.NVML_FI_DEV_POWER_INSTANT
    (field,) = nvml.call("nvmlDeviceGetFieldValues", handle, [field_id])
    if field.nvmlReturn != 0:
        raise MissingDependencyError("NVML: the power of the moment is not supported.")
    return float(field.value.uiVal) / 1000


def _average_power_w(nvml: Nvml, handle: Any) -> float:
    return float(nvml.call("nvmlDeviceGetPowerUsage", handle)) / 1000


def _energy_j(nvml: Nvml, handle: Any) -> float:
    """Return the energy since the driver was loaded."""
    return float(nvml.call("nvmlDeviceGetTotalEnergyConsumption", handle)) / 1000


def _temperature_c(nvml: Nvml, handle: Any) -> float:
    return float(
        _first(nvml, ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"), handle, "NVML_TEMPERATURE_GPU")
    )


def _clock_mhz(nvml: Nvml, handle: Any) -> float:
    return float(nvml.call("nvmlDeviceGetClockInfo", handle, "NVML_CLOCK_SM"))


def _load_percent(nvml: Nvml, handle: Any) -> float:
    """Return the part of the last moments in which a kernel ran."""
    return float(nvml.call("nvmlDeviceGetUtilizationRates", handle).gpu)


def _limit_probe(nvml: Nvml, handle: Any, name: str, bits: dict[str, int]) -> Probe:
    """Return the probe of all throttle reasons, which NVML returns as bits of one number."""
    sensors = tuple(Sensor(f"{name}: {words}", "throttle", "GPU", "NVML clock event reasons") for words in bits)
    calls = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")

    def read() -> Sequence[float]:
        held = int(_first(nvml, calls, handle))
        return [float(bool(held & bit)) for bit in bits.values()]

    return Probe(sensors, read)


def _first(nvml: Nvml, names: tuple[str, str], *arguments: Any) -> Any:
    """Call a function by its new name, or by the old one where the driver or the package is older."""
    try:
        return nvml.call(names[0], *arguments)
    except MissingDependencyError:
        return nvml.call(names[1], *arguments)


def limit_bits(module: Any) -> dict[str, int]:
    """Return the words for each throttle reason that this version of the package knows -> its bit."""
    bits: dict[str, int] = {}
    for ending, words in LIMITS.items():
        values = (getattr(module, prefix + ending, None) for prefix in LIMIT_PREFIXES)
        bit = next((value for value in values if value), None)
        if bit:
            bits[words] = int(bit)
    return bits


def _meters(sensors: Sequence[Sensor], gpus: int) -> tuple[Meter, ...]:
    """Prefer the energy counter: it misses nothing between two samples. All GPUs together: any may be the one used."""
    counters = tuple(sensor.name for sensor in sensors if sensor.kind == "energy")
    if len(counters) == gpus:
        return (Meter("GPU board", "GPU", "energy", counters),)
    powers = tuple(sensor.name for sensor in sensors if sensor.kind == "power")
    if len(powers) < gpus:
        return ()
    averaged = any(sensor.source == AVERAGED_SOURCE for sensor in sensors)
    return (Meter("GPU board", "GPU", "power", powers, AVERAGED_S if averaged else FAST_PERIOD_S),)
