"""NVIDIA GPUs through NVML (package nvidia-ml-py). Each call may be unsupported on its own; on a Jetson most are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
LIMIT_CALLS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
"""The new name and the old one, for older drivers."""

AVERAGED_SOURCE = "nvmlDeviceGetPowerUsage, averaged over a second on many GPUs"
AVERAGED_S = 1.0

LoadNvml = Callable[[], Any]
"""Gives the module ``pynvml``."""


@dataclass(frozen=True, slots=True)
class GpuLimits:
    """How one GPU is limited. A field that is None is not told by its driver."""

    name: str
    power_limit_w: float | None
    """What holds now."""
    default_power_limit_w: float | None
    max_clock_mhz: float | None
    slowdown_c: float | None
    """Temperature from which the hardware slows down."""


def load_nvml() -> Any:
    """Import the package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pynvml
    except ImportError as error:
        raise MissingDependencyError(
            "nvidia-ml-py is not installed.", "Install it: pip install 'drc-deploy[telemetry]'."
        ) from error
    return pynvml


class Nvml:
    """An open NVML, whose errors are sentences."""

    def __init__(self, load: LoadNvml = load_nvml) -> None:
        """Open it.

        Raises:
            MissingDependencyError: the package or the driver is not there, or there is no GPU.
        """
        self.pynvml = load()
        self.call("nvmlInit")
        try:
            count = self.call("nvmlDeviceGetCount")
            self.handles = [self.call("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
            if not self.handles:
                raise MissingDependencyError("NVML finds no GPU.")
        except MissingDependencyError:
            self.close()
            raise

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the module.

        Raises:
            MissingDependencyError: this version or this GPU does not have it.
        """
        function = getattr(self.pynvml, name, None)
        if function is None:
            raise MissingDependencyError(f"this version of nvidia-ml-py has no {name}.")
        try:
            return function(*arguments)
        except self.pynvml.NVMLError as error:
            raise MissingDependencyError(f"NVML: {error}.") from error

    def constant(self, name: str) -> Any:
        """Return a constant of the module.

        Raises:
            MissingDependencyError: this version does not have it.
        """
        value = getattr(self.pynvml, name, None)
        if value is None:
            raise MissingDependencyError(f"this version of nvidia-ml-py has no {name}.")
        return value

    def close(self) -> None:
        """Shut it down; a driver that is gone is no error."""
        try:
            self.call("nvmlShutdown")
        except MissingDependencyError:
            return

    def power_w(self, handle: Any) -> float:
        """Return the power of the moment; ``average_power_w`` is averaged over a second on many GPUs."""
        (field,) = self.call("nvmlDeviceGetFieldValues", handle, [self.constant("NVML_FI_DEV_POWER_INSTANT")])
        if field.nvmlReturn != 0:
            raise MissingDependencyError("NVML: the power of the moment is not supported.")
        return float(field.value.uiVal) / 1000

    def average_power_w(self, handle: Any) -> float:
        """Return the power as older drivers tell it."""
        return float(self.call("nvmlDeviceGetPowerUsage", handle)) / 1000

    def energy_j(self, handle: Any) -> float:
        """Return the energy since the driver was loaded."""
        return float(self.call("nvmlDeviceGetTotalEnergyConsumption", handle)) / 1000

    def temperature_c(self, handle: Any) -> float:
        """Return the temperature of the GPU."""
        sensor = self.constant("NVML_TEMPERATURE_GPU")
        try:
            return float(self.call("nvmlDeviceGetTemperatureV", handle, sensor))
        except MissingDependencyError:  # an older driver or package
            return float(self.call("nvmlDeviceGetTemperature", handle, sensor))

    def clock_mhz(self, handle: Any) -> float:
        """Return the clock of the multiprocessors."""
        return float(self.call("nvmlDeviceGetClockInfo", handle, self.constant("NVML_CLOCK_SM")))

    def load_percent(self, handle: Any) -> float:
        """Return the part of the last moments in which a kernel ran."""
        return float(self.call("nvmlDeviceGetUtilizationRates", handle).gpu)


def open_nvml(nvml: Nvml) -> tuple[ProbeGroup, Found]:
    """Return what NVML tells about every GPU, as a source and with its meter."""
    probes: list[Probe] = []
    missing: dict[str, str] = {}
    for index, handle in enumerate(nvml.handles):
        name = f"GPU {index}" if len(nvml.handles) > 1 else "GPU"
        found = _gpu_probes(nvml, handle, name)
        probes_here = [probe for probe in found if probe.sensors]
        why = [answers(probe) for probe in probes_here]
        probes += [probe for probe, reason in zip(probes_here, why, strict=True) if reason is None]
        missing |= {
            f"{probe.sensors[0].kind} of the {name}": reason
            for probe, reason in zip(probes_here, why, strict=True)
            if reason
        }
    sensors = [sensor for probe in probes for sensor in probe.sensors]
    meters = _meters(sensors, len(nvml.handles))
    return ProbeGroup("NVML", FAST_PERIOD_S, tuple(probes), nvml.close), Found((), meters, missing)


def gpu_limits(nvml: Nvml) -> tuple[GpuLimits, ...]:
    """Return how every GPU is limited."""
    clock = getattr(nvml.pynvml, "NVML_CLOCK_SM", None)
    slowdown = getattr(nvml.pynvml, "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN", None)
    return tuple(
        GpuLimits(
            name=_text(_told(nvml, "nvmlDeviceGetName", handle) or "GPU"),
            power_limit_w=_number(nvml, 1e-3, "nvmlDeviceGetEnforcedPowerLimit", handle),
            default_power_limit_w=_number(nvml, 1e-3, "nvmlDeviceGetPowerManagementDefaultLimit", handle),
            max_clock_mhz=_number(nvml, 1, "nvmlDeviceGetMaxClockInfo", handle, clock),
            slowdown_c=_number(nvml, 1, "nvmlDeviceGetTemperatureThreshold", handle, slowdown),
        )
        for handle in nvml.handles
    )


def _told(nvml: Nvml, name: str, *arguments: Any) -> Any:
    """Call a function; give None if it is not supported, or an argument is a constant that is missing."""
    try:
        return None if None in arguments else nvml.call(name, *arguments)
    except MissingDependencyError:
        return None


def _number(nvml: Nvml, factor: float, name: str, *arguments: Any) -> float | None:
    value = _told(nvml, name, *arguments)
    return None if value is None else float(value) * factor


def _gpu_probes(nvml: Nvml, handle: Any, name: str) -> list[Probe]:
    """Return every probe of one GPU, whether it answers or not."""
    power = single(Sensor(f"{name} power", "power", "GPU", "NVML field POWER_INSTANT"), lambda: nvml.power_w(handle))
    if answers(power):
        power = single(Sensor(f"{name} power", "power", "GPU", AVERAGED_SOURCE), lambda: nvml.average_power_w(handle))
    return [
        power,
        single(
            Sensor(f"{name} energy", "energy", "GPU", "nvmlDeviceGetTotalEnergyConsumption"),
            lambda: nvml.energy_j(handle),
        ),
        single(
            Sensor(f"{name} temperature", "temperature", "GPU", "NVML temperature"), lambda: nvml.temperature_c(handle)
        ),
        single(
            Sensor(f"{name} clock", "clock", "GPU", "nvmlDeviceGetClockInfo of the SM"), lambda: nvml.clock_mhz(handle)
        ),
        single(
            Sensor(f"{name} load", "load", "GPU", "nvmlDeviceGetUtilizationRates"), lambda: nvml.load_percent(handle)
        ),
        _limit_probe(nvml, handle, name),
    ]


def _limit_probe(nvml: Nvml, handle: Any, name: str) -> Probe:
    """Return the probe of all throttle reasons, which NVML gives as bits of one number."""
    bits = limit_bits(nvml.pynvml)
    sensors = tuple(Sensor(f"{name}: {words}", "throttle", "GPU", "NVML clock event reasons") for words in bits)

    def read() -> Sequence[float]:
        held = _held_limits(nvml, handle)
        return [float(bool(held & bit)) for bit in bits.values()]

    return Probe(sensors, read)


def _held_limits(nvml: Nvml, handle: Any) -> int:
    new, old = LIMIT_CALLS
    try:
        return int(nvml.call(new, handle))
    except MissingDependencyError:
        return int(nvml.call(old, handle))


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


def _text(value: str | bytes) -> str:
    """Return text: older versions of the package gave bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
