"""Memory of this process and of the GPU. What a machine cannot tell is None with the reason, never zero."""

from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.nvidia_smi import query_used_bytes

HOST_METHOD = "VmHWM of a process of its own that loads and runs this engine only (Python included)"
DEVICE_METHOD = "growth of nvidia-smi's memory.used from before loading until after the runs (the whole GPU)"
PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured number, or the reason why there is none."""

    value: int | None
    note: str
    """How it was measured; when ``value`` is None, why it could not be."""


def peak_host_memory(status: Path = PROC_STATUS) -> Reading:
    """Give the largest resident size in bytes that this process has had.

    Not ``getrusage``: its ``ru_maxrss`` begins with the size of the process that started this one.
    """
    try:
        lines = status.read_text(encoding="ascii").splitlines()
    except OSError:
        return Reading(None, "unavailable: this system has no /proc")
    for line in lines:
        if line.startswith("VmHWM:"):
            return Reading(int(line.split()[1]) * 1024, HOST_METHOD)
    return Reading(None, f"unavailable: {status} has no VmHWM")


class DeviceMemory:
    """Measures how much GPU memory an engine takes, from before it is loaded."""

    def __init__(self) -> None:
        self._before = query_used_bytes()

    def read(self, device: str) -> Reading:
        """Give the growth in bytes; ``device`` is what the engine says that it runs on."""
        if not is_gpu(device):
            return Reading(None, f"unavailable: the engine runs on {device}")
        now = query_used_bytes()
        if self._before is None or now is None:
            return Reading(None, "unavailable: nvidia-smi does not tell the memory in use on this machine")
        return Reading(max(now - self._before, 0), DEVICE_METHOD)


def is_gpu(device: str) -> bool:
    """Tell whether a backend's name of its device means a GPU."""
    return any(word in device.lower() for word in ("cuda", "tensorrt", "gpu", "nvidia"))
