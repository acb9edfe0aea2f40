"""NVIDIA GPUs through NVML (package nvidia-ml-py). Each call may be unsupported on its own; on a Jetson most are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver

LoadNvml = Callable[[], Any]
"""Returns the module ``pynvml``."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. A field that its driver does not report is None."""

    name: str
    driver: str
    compute_capability: str | None
    memory_bytes: int | None
    power_limit_w: float | None
    """The limit in force."""
    default_power_limit_w: float | None
    max_clock_mhz: float | None
    """Of the multiprocessors."""
    slowdown_c: float | None
    """Temperature from which the hardware slows down."""


def load_nvml() -> Any:
    """Import the package: only where it is used, because it takes a tenth of a second and 4 MiB."""
    import pynvml

    return pynvml


class Nvml:
    """An open NVML, whose errors are sentences."""

    def __init__(self, load: LoadNvml = load_nvml) -> None:
        """Open it.

        Raises:
            MissingDependencyError: there is no driver or no GPU.
        """
        self.pynvml = load()
        try:
            self.call("nvmlInit")
        except MissingDependencyError as error:
            reason = error.message.removeprefix("NVML: ").rstrip(".")
            raise MissingDependencyError(f"There is no working NVIDIA driver ({reason}).") from error
        try:
            count = self.call("nvmlDeviceGetCount")
            self.handles = [self.call("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
            if not self.handles:
                raise MissingDependencyError("NVML finds no GPU.")
        except MissingDependencyError:
            self.close()
            raise

    def __enter__(self) -> "Nvml":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the module; an argument that is a string is the name of a constant.

        Raises:
            MissingDependencyError: this version of the package or this GPU does not have it.
        """
        function, *values = (self._named(item) if isinstance(item, str) else item for item in (name, *arguments))
        try:
            return function(*values)
        except self.pynvml.NVMLError as error:
            raise MissingDependencyError(f"NVML: {error}.") from error

    def _named(self, name: str) -> Any:
        value = getattr(self.pynvml, name, None)
        if value is None:
            raise MissingDependencyError(f"this version of nvidia-ml-py has no {name}.")
        return value

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a function of the module; None where it is not supported."""
        try:
            return self.call(name, *arguments)
        except MissingDependencyError:
            return None

    def close(self) -> None:
        """Shut it down; a driver that is gone is no error."""
        self.ask("nvmlShutdown")

    def gpus(self) -> tuple[Gpu, ...]:
        """Describe every GPU."""
        return tuple(self._gpu(handle) for handle in self.handles)

    def _gpu(self, handle: Any) -> Gpu:
        def number(name: str, *arguments: Any) -> float | None:
            value = self.ask(name, handle, *arguments)
            return None if value is None else float(value)

        def watts(name: str) -> float | None:
            milliwatts = number(name)
            return None if milliwatts is None else milliwatts / 1000

        capability = self.ask("nvmlDeviceGetCudaComputeCapability", handle)
        memory = self.ask("nvmlDeviceGetMemoryInfo", handle)
        return Gpu(
            name=_text(self.ask("nvmlDeviceGetName", handle) or "GPU"),
            driver=_text(self.ask("nvmlSystemGetDriverVersion") or "unknown"),
            compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
            memory_bytes=None if memory is None else int(memory.total),
            power_limit_w=watts("nvmlDeviceGetEnforcedPowerLimit"),
            default_power_limit_w=watts("nvmlDeviceGetPowerManagementDefaultLimit"),
            max_clock_mhz=number("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
            slowdown_c=number("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN"),
        )

    def used_bytes(self) -> int | None:
        """Return the memory in use on all GPUs together; None where no GPU reports it."""
        infos = [self.ask("nvmlDeviceGetMemoryInfo", handle) for handle in self.handles]
        used = [int(info.used) for info in infos if info is not None]
        return sum(used) if used else None


def query_used_bytes() -> int | None:
    """Return the memory in use on all GPUs together; None where it is not reported."""
    if not has_cuda_driver():  # importing pynvml would add to the peak memory of an engine on the CPU
        return None
    try:
        with Nvml() as nvml:
            return nvml.used_bytes()
    except MissingDependencyError:
        return None


def _text(value: str | bytes) -> str:
    """Return text: older versions of the package return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
