"""Memory of this process and of the GPU. What a machine cannot tell is None with the reason, never zero."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.nvidia_smi import query_used_bytes

HOST_METHOD = "VmHWM of a process of its own that loads and runs this engine only (Python included)"
DEVICE_METHOD = "growth of nvidia-smi's memory.used (of whole GPUs) while this engine alone loads and warms up"
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
    """Adds up how much GPU memory an engine takes, over the times when it alone is at work."""

    def __init__(self, used_bytes: Callable[[], int | None] = query_used_bytes) -> None:
        self._used_bytes = used_bytes
        self._growth: int | None = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Add the growth between the beginning and the end of the block."""
        before = self._used_bytes()
        yield
        after = self._used_bytes()
        if before is None or after is None or self._growth is None:
            self._growth = None
        else:
            self._growth += after - before

    @property
    def growth(self) -> int | None:
        """Bytes so far; None where nobody tells."""
        return self._growth

    def read(self, device: str) -> Reading:
        """Give the growth in bytes; ``device`` is what the engine says that it runs on."""
        if not is_gpu(device):
            return Reading(None, f"unavailable: the engine runs on {device}")
        if self._growth is None:
            return Reading(None, "unavailable: nvidia-smi does not tell the memory in use on this machine")
        return Reading(max(self._growth, 0), DEVICE_METHOD)


def is_gpu(device: str) -> bool:
    """Tell whether a backend's name of its device means a GPU."""
    name = device.lower()
    if name.startswith("torch "):
        return name.split()[1] != "cpu"  # else the GPU's own name, such as `Tesla T4` or `Orin`
    return any(word in name for word in ("cuda", "tensorrt", "gpu", "nvidia"))
