"""Files that report throttling: alerts of a Jetson, its over-current events, and an Intel CPU's count."""

from collections.abc import Callable
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import Found, Probe, Sensor, answers, file_number, rising_file, single
from drc_deploy.proc_files import read_text

ALERTS = ("-throttle-alert", "hot-surface-alert")
"""Endings of the cooling devices of a Jetson that stand for throttling; others are fans and clocks at work."""
PACKAGE_COUNT = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"


def find_limits(root: Path) -> Found:
    """Find everything below ``root`` that reports throttling."""
    probes = [probe for probe in [*_alerts(root), *_over_currents(root), *_package(root)] if answers(probe) is None]
    return Found(tuple(probes), (), {} if probes else {"throttling": "no file of this machine reports throttling"})


def _alerts(root: Path) -> list[Probe]:
    probes = []
    for folder in sorted(root.glob("sys/class/thermal/cooling_device*")):
        name = read_text(folder / "type") or ""
        if name.endswith(ALERTS):
            sensor = Sensor(name, "throttle", "all", f"{folder.name}/cur_state")
            probes.append(single(sensor, _is_active(folder / "cur_state")))
    return probes


def _is_active(path: Path) -> Callable[[], float]:
    return lambda: float(file_number(path) > 0)


def _over_currents(root: Path) -> list[Probe]:
    """Return the counters of under-voltage and over-current events. Each event lowers the clocks for a moment."""
    probes = []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for path in sorted(folder.glob("oc*_event_cnt")) if read_text(folder / "name") == "soctherm_oc" else ():
            number = path.name.removesuffix("_event_cnt")
            sensor = Sensor(f"over-current or under-voltage event {number}", "throttle", "all", path.name)
            probes.append(single(sensor, rising_file(path)))
    return probes


def _package(root: Path) -> list[Probe]:
    sensor = Sensor("thermal throttling of the CPU", "throttle", "CPU", "package_throttle_count")
    return [single(sensor, rising_file(root / PACKAGE_COUNT))]
