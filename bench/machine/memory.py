"""Memory of this process and of the GPU. A missing reading is None with the reason, never zero."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.runtime.backends.contract import GpuMemory
from drc_deploy.runtime.machine.nvml import query_used_bytes
from drc_deploy.runtime.memory.host import kib_field

HOST_METHOD = "VmHWM of a process of its own that loads and runs this engine only (Python included)"
DEVICE_METHOD = "growth of the memory in use on all GPUs (NVML) while this engine alone loads and warms up"
PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured number, or the reason why there is none."""

    value: int | None
    note: str
    """How it was measured; when ``value`` is None, why it could not be."""


def peak_host_memory(status: Path = PROC_STATUS) -> Reading:
    """Return the largest resident size in bytes that this process has had.

    Not ``getrusage``: its ``ru_maxrss`` begins with the size of the process that started this one.
    """
    peak = kib_field(status, "VmHWM")
    return Reading(peak, HOST_METHOD if peak is not None else f"unavailable: {status} has no VmHWM")


class DeviceMemory:
    """Adds up how much memory an engine takes, over the times when it alone is at work.

    Attributes:
        growth: Bytes so far; None where they are not reported.
    """

    def __init__(self, used_bytes: Callable[[], int | None] = query_used_bytes) -> None:
        self._used_bytes = used_bytes
        self.growth: int | None = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Add the growth between the beginning and the end of the block."""
        before = self._used_bytes()
        yield
        after = self._used_bytes()
        if before is None or after is None or self.growth is None:
            self.growth = None
        else:
            self.growth += after - before

    def read(self, device: str) -> Reading:
        """Return the growth in bytes; ``device`` is what the engine says that it runs on."""
        if not is_gpu(device):
            return Reading(None, f"unavailable: the engine runs on {device}")
        if self.growth is None:
            return Reading(None, "unavailable: NVML does not report the memory in use on this machine")
        return Reading(max(self.growth, 0), DEVICE_METHOD)


def is_gpu(device: str) -> bool:
    """Return whether a backend's name of its device means a GPU."""
    name = device.lower()
    if name.startswith("torch "):
        return name.split()[1] != "cpu"  # else the GPU's own name, such as `Tesla T4` or `Orin`
    return any(word in name for word in ("cuda", "tensorrt", "gpu", "nvidia"))


UNIFIED_METHOD = "growth of MemTotal - MemAvailable, of host and GPU alike, while this engine alone loads and warms up"


@dataclass(frozen=True, slots=True)
class MemorySplit:
    """Bytes on the device. What is not known is None, and ``note`` says why."""

    engine: int | None
    """Weights."""
    scratch: int | None
    """Of the context, while it computes."""
    io: int | None
    """Inputs and outputs of all lanes."""
    library: int | None
    """The rest of the peak: the library's kernels, the driver's context."""
    note: str
    shared: Reading
    """Of host and GPU together where they share one memory: then their two peaks overlap, and do not add up."""


def split_memory(plan: GpuMemory | None, device_peak: Reading, shared: Reading) -> MemorySplit:
    """Split the peak of a device into what a plan says that it takes, and the rest."""
    if plan is None:
        reason = "unavailable: only TensorRT reports the parts of its memory"
        return MemorySplit(None, None, None, None, reason, shared)
    library = None if device_peak.value is None else max(device_peak.value - plan.total, 0)
    unknown = "" if library is not None else f"; library {device_peak.note}"
    note = f"engine, context and I/O as reported by TensorRT{unknown}"
    return MemorySplit(plan.engine, plan.scratch, plan.io, library, note, shared)


def used_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that the whole system has in use; None where it is not reported."""
    total, free = (kib_field(root / "proc/meminfo", name) for name in ("MemTotal", "MemAvailable"))
    return total - free if total is not None and free is not None else None


def read_shared(growth: int | None, board: str | None, device: str) -> Reading:
    """Judge a growth of the system's memory; ``board`` is None on an ordinary computer."""
    if board is None or not is_gpu(device):
        return Reading(None, "unavailable: host and GPU have separate memory, or the engine does not use a GPU")
    if growth is None:
        return Reading(None, "unavailable: there is no /proc/meminfo")
    return Reading(max(growth, 0), UNIFIED_METHOD)
