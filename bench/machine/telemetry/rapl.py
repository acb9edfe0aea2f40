"""Energy counters of Intel and AMD processors (Linux ``Documentation/power/powercap/powercap.rst``)."""

from collections.abc import Callable
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import Found, Meter, file_number, numbered, single
from drc_deploy.proc_files import read_text


def find_rapl(root: Path) -> Found:
    """Find the energy counters below ``root``: packages, DRAM, and the platform where it has one."""
    folders = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    labels = numbered([read_text(folder / "name") or folder.name for folder in folders])
    if not folders:
        return Found(missing={"energy of the CPU": "it has no energy counter that Linux shows (no RAPL in powercap)"})
    found = Found()
    for folder, label in zip(folders, labels, strict=True):
        found.add(label, single(label, "energy", "CPU", f"RAPL {folder.name}", counter_reader(folder)))
    if not found.probes:
        why = f"its energy counter (RAPL) cannot be read, which Linux lets root alone: {found.missing[labels[0]]}"
        return Found(missing={"energy of the CPU": why})
    packages = [probe.sensors[0].name for probe in found.probes if probe.sensors[0].name.startswith("package")]
    meters = [Meter("CPU package", "CPU", "energy", tuple(packages))] if packages else []
    return Found(found.probes, meters)


def counter_reader(folder: Path) -> Callable[[], float]:
    """Return a reader of the joules since its first reading; the counter in the file wraps around at its range."""
    total_uj = 0.0
    last: float | None = None

    def read() -> float:
        nonlocal total_uj, last
        count = file_number(folder / "energy_uj")
        if last is not None:
            rise = count - last
            total_uj += rise if rise >= 0 else rise + file_number(folder / "max_energy_range_uj")
        last = count
        return total_uj * 1e-6

    return read
