"""Power rails of a Jetson, as INA3221 and INA238 chips measure them (Linux ``Documentation/hwmon/ina3221.rst``)."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import (
    Found,
    Meter,
    Probe,
    Sensor,
    answers,
    file_number,
    scaled_file,
    single,
)
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
    probes: list[Probe] = []
    for folder in _hwmon_folders(root):
        chip = read_text(folder / "name") or ""
        if chip.startswith("ina3221"):
            probes += _ina3221_probes(folder)
        elif chip.startswith("ina238"):
            source = f"{chip} power1_input"
            probes.append(single(_rail("VIN", source), scaled_file(folder / "power1_input", 1e-6)))
    missing = {f"power of {probe.sensors[0].name}": why for probe in probes if (why := answers(probe))}
    found = [probe for probe in probes if f"power of {probe.sensors[0].name}" not in missing]
    if not found:
        return Found(missing={"power": "no INA3221 or INA238 power monitor can be read"} | missing)
    return Found(tuple(found), (total_meter([probe.sensors[0].name for probe in found]),), missing)


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


def _ina3221_probes(folder: Path) -> list[Probe]:
    probes = []
    for channel in CHANNELS:
        label = read_text(folder / f"in{channel}_label")
        if label and label != UNUSED:
            source = f"INA3221 in{channel}_input x curr{channel}_input"
            probes.append(single(_rail(label, source), _power_reader(folder, channel)))
    return probes


def _power_reader(folder: Path, channel: int) -> Callable[[], float]:
    millivolts, milliamperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
    return lambda: file_number(millivolts) * file_number(milliamperes) * 1e-6


def _rail(name: str, source: str) -> Sensor:
    return Sensor(name, "power", "all", source)
