"""Temperatures: thermal zones, or the sensors that processors have of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import Found, Probe, Sensor, file_number, numbered, scaled_file, single
from drc_deploy.bench.machine.telemetry.trace import Part
from drc_deploy.proc_files import read_text

OFF_MILLIDEGREES = -256000.0
"""What a Jetson gives for a part that is switched off, such as an idle GPU."""
CHIPS = ("coretemp", "k10temp", "zenpower")
CHIP_LABELS = ("Package id", "Tctl", "Tdie")
"""Labels of whole processors; a sensor a core would be a hundred of them."""


def find_temperatures(root: Path) -> Found:
    """Find the temperatures of the processors below ``root``; thermal zones only where there are no others."""
    probes = list(_chip_probes(root)) or list(_zone_probes(root))
    names = numbered([probe.sensors[0].name for probe in probes])
    if not probes:
        return Found(missing={"temperature": "there is no thermal zone and no coretemp or k10temp"})
    return Found(tuple(_named(probe, name) for probe, name in zip(probes, names, strict=True)))


def _chip_probes(root: Path) -> Iterator[Probe]:
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        chip = read_text(folder / "name")
        for label_file in sorted(folder.glob("temp*_label")) if chip in CHIPS else ():
            label = read_text(label_file) or ""
            if label.startswith(CHIP_LABELS):
                value_file = folder / label_file.name.replace("_label", "_input")
                sensor = Sensor(f"{chip} {label}", "temperature", "CPU", f"hwmon {chip} {value_file.name}")
                yield single(sensor, scaled_file(value_file, 1e-3))


def _zone_probes(root: Path) -> Iterator[Probe]:
    for folder in sorted(root.glob("sys/class/thermal/thermal_zone*"), key=_number):
        name = read_text(folder / "type") or folder.name
        yield single(Sensor(name, "temperature", _part(name), f"{folder.name}/temp"), _zone_reader(folder / "temp"))


def _zone_reader(path: Path) -> Callable[[], float]:
    def read() -> float:
        millidegrees = file_number(path)
        if millidegrees <= OFF_MILLIDEGREES:
            raise ValueError("what it measures is switched off")
        return millidegrees * 1e-3

    return read


def _part(zone: str) -> Part:
    lower = zone.lower()
    return "GPU" if lower.startswith("gpu") else "CPU" if lower.startswith(("cpu", "x86_pkg")) else "all"


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("thermal_zone")
    return int(digits) if digits.isdigit() else 0


def _named(probe: Probe, name: str) -> Probe:
    sensor = probe.sensors[0]
    return Probe((Sensor(name, sensor.kind, sensor.part, sensor.source),), probe.read)
