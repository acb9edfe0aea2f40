"""Energy counters of Intel and AMD processors (Linux ``Documentation/power/powercap/powercap.rst``)."""

from collections.abc import Callable
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import (
    Found,
    Meter,
    Probe,
    Sensor,
    answers,
    file_number,
    numbered,
    single,
)
from drc_deploy.proc_files import read_text


def find_rapl(root: Path) -> Found:
    """Find the energy counters below ``root``: packages, DRAM, and the platform where it has one."""
    folders = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    labels = numbered([read_text(folder / "name") or folder.name for folder in folders])
    probes = [
        single(Sensor(label, "energy", "CPU", f"RAPL {folder.name}"), counter_reader(folder))
        for folder, label in zip(folders, labels, strict=True)
    ]
    if not probes:
        return Found(missing={"energy of the CPU": "it has no energy counter that Linux shows (no RAPL in powercap)"})
    reasons = [answers(probe) for probe in probes]
    readable: list[Probe] = [probe for probe, reason in zip(probes, reasons, strict=True) if reason is None]
    if not readable:
        why = f"its energy counter (RAPL) cannot be read, which Linux lets root alone: {reasons[0]}"
        return Found(missing={"energy of the CPU": why})
    packages = tuple(probe.sensors[0].name for probe in readable if probe.sensors[0].name.startswith("package"))
    meters = (Meter("CPU package", "CPU", "energy", packages),) if packages else ()
    return Found(tuple(readable), meters)


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
