"""Power rails of a Jetson (Linux ``hwmon/ina3221.rst``) and energy counters of processors (``power/powercap.rst``)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import Found, Meter, Probe, file_number, numbered, rise_in, single
from drc_deploy.proc_files import read_text

CHANNELS = (1, 2, 3)
"""Those of an INA3221 that measure a rail; 7 is the sum of shunt voltages."""
HWMON_FOLDERS = (
    "sys/class/hwmon/hwmon*",
    "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*",
    "sys/bus/i2c/devices/*/hwmon/hwmon*",
)
UNUSED = "NC"
"""Label of a channel that is not connected."""

TOTALS = {"VIN": "board", "POM_5V_IN": "board", "VDD_IN": "module"}
"""Rails through which all power comes in, the widest first -> what they cover: VIN of Thor, POM_5V_IN of Nano, VDD_IN
of Xavier NX, Orin NX and Orin Nano. VIN_SYS_5V0 is none, although it looks like one: on AGX Orin it is one of three."""
PARTS_OF_OTHERS = ("VDDQ_VDD2_1V8AO",)
"""Rails that another measured rail feeds: on AGX Orin, VIN_SYS_5V0 does."""


def find_rails(root: Path) -> Found:
    """Find the rails of a Jetson below ``root``, and which of them make up its total power."""
    found = Found()
    for folder in _hwmon_folders(root):
        for probe in _rail_probes(folder, read_text(folder / "name") or ""):
            found.add(f"power of {probe.name}", probe)
    if found.probes:
        found.meters.append(total_meter([probe.name for probe in found.probes]))
    else:
        found.missing = {"power": "no INA3221 or INA238 power monitor can be read"} | found.missing
    return found


def total_meter(rails: Sequence[str]) -> Meter:
    """Return which of the rails (their labels) add up to the whole, or to as much of it as they cover."""
    for rail, covers in TOTALS.items():
        if rail in rails:
            return Meter(covers, "all", "power", (rail,))
    return Meter("a sum of rails", "all", "power", tuple(rail for rail in rails if rail not in PARTS_OF_OTHERS))


def _hwmon_folders(root: Path) -> Iterable[Path]:
    """Return each hwmon folder once, by whichever path this JetPack shows it."""
    folders = (folder for pattern in HWMON_FOLDERS for folder in sorted(root.glob(pattern)))
    return {folder.resolve(): folder for folder in folders}.values()


def _rail_probes(folder: Path, chip: str) -> Iterator[Probe]:
    if chip.startswith("ina238"):
        yield single("VIN", "power", "all", f"{chip} power1_input", file_number, folder / "power1_input", 1e-6)
    for channel in CHANNELS if chip.startswith("ina3221") else ():
        label = read_text(folder / f"in{channel}_label")
        if label and label != UNUSED:
            source = f"INA3221 in{channel}_input x curr{channel}_input"
            yield single(label, "power", "all", source, _rail_watts, folder, channel)


def _rail_watts(folder: Path, channel: int) -> float:
    millivolts, milliamperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
    return file_number(millivolts) * file_number(milliamperes) * 1e-6


def find_rapl(root: Path) -> Found:
    """Find the energy counters below ``root``: packages, DRAM, and the platform where it has one."""
    folders = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    if not folders:
        return Found(missing={"energy of the CPU": "it has no energy counter that Linux shows (no RAPL in powercap)"})
    found = Found()
    labels = numbered([read_text(folder / "name") or folder.name for folder in folders])
    for folder, label in zip(folders, labels, strict=True):
        found.add(label, single(label, "energy", "CPU", f"RAPL {folder.name}", _counter_reader(folder)))
    if not found.probes:
        why = f"its energy counter (RAPL) cannot be read, which Linux lets root alone: {found.missing[labels[0]]}"
        return Found(missing={"energy of the CPU": why})
    packages = tuple(probe.name for probe in found.probes if probe.name.startswith("package"))
    return Found(found.probes, [Meter("CPU package", "CPU", "energy", packages)] if packages else [])


def _counter_reader(folder: Path) -> Callable[[], float]:
    """Return a reader of the joules since its first reading; the counter in the file wraps around at its range."""
    rise_uj, total_uj = rise_in(folder / "energy_uj"), 0.0

    def read() -> float:
        nonlocal total_uj
        rise = rise_uj()
        total_uj += rise if rise >= 0 else rise + file_number(folder / "max_energy_range_uj")
        return total_uj * 1e-6

    return read
