"""What the memory of an engine consists of, where the backend knows; on a Jetson the one memory is counted once."""

from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.memory import Reading, is_gpu
from drc_deploy.proc_files import colon_lines
from drc_deploy.runtime.backends.contract import GpuMemory

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
        reason = "unavailable: only TensorRT tells what its memory is for"
        return MemorySplit(None, None, None, None, reason, shared)
    library = None if device_peak.value is None else max(device_peak.value - plan.total, 0)
    unknown = "" if library is not None else f"; library {device_peak.note}"
    note = f"engine, context and I/O as TensorRT tells{unknown}"
    return MemorySplit(plan.engine, plan.scratch, plan.io, library, note, shared)


def used_bytes(root: Path = Path("/")) -> int | None:
    """Give the memory that the whole system has in use; None where nobody tells."""
    fields = dict(colon_lines(root / "proc/meminfo"))
    if "MemTotal" not in fields or "MemAvailable" not in fields:
        return None
    return (int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])) * 1024


def read_shared(growth: int | None, board: str | None, device: str) -> Reading:
    """Judge a growth of the system's memory; ``board`` is None on an ordinary computer."""
    if board is None or not is_gpu(device):
        return Reading(None, "unavailable: host and GPU have each their own memory, or there is no GPU at work")
    if growth is None:
        return Reading(None, "unavailable: there is no /proc/meminfo")
    return Reading(max(growth, 0), UNIFIED_METHOD)
