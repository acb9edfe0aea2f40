"""Temperatures, clocks, load and throttling from files of Linux."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import (
    Found,
    Probe,
    file_number,
    numbered,
    part_of,
    rise_in,
    single,
)
from drc_deploy.proc_files import read_text

OFF_MILLIDEGREES = -256000.0
"""Temperature that a Jetson shows for a part that is switched off, such as an idle GPU."""
CHIPS = ("coretemp", "k10temp", "zenpower")
CHIP_LABELS = ("Package id", "Tctl", "Tdie")
"""Labels of whole processors; a sensor a core would be a hundred of them."""
MOST_POLICIES = 16
"""Reading a core's clock may interrupt that core: not all of a large machine."""
GPU_DEVICE = re.compile(r"(^gpu-gpc-\d+|\.(gpu|ga10b|gv11b|gp10b|gm20b))$")
"""Names in ``sys/class/devfreq`` that are a GPU's: 17000000.ga10b (JetPack 5), 17000000.gpu (6), gpu-gpc-0 (Thor)."""
ALERTS = ("-throttle-alert", "hot-surface-alert")
"""Endings of the cooling devices of a Jetson that stand for throttling; others are fans and clocks at work."""
PACKAGE_COUNT = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"


def find_temperatures(root: Path) -> Found:
    """Find the temperatures of the processors below ``root``; thermal zones only where there are no others."""
    probes = list(_chip_probes(root)) or list(_zone_probes(root))
    if not probes:
        return Found(missing={"temperature": "there is no thermal zone and no coretemp or k10temp"})
    names = numbered([probe.name for probe in probes])
    return Found(
        [Probe((replace(probe.sensors[0], name=name),), probe.read) for probe, name in zip(probes, names, strict=True)]
    )


def _chip_probes(root: Path) -> Iterator[Probe]:
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        chip = read_text(folder / "name")
        for label_file in sorted(folder.glob("temp*_label")) if chip in CHIPS else ():
            label = read_text(label_file) or ""
            if label.startswith(CHIP_LABELS):
                value_file = folder / label_file.name.replace("_label", "_input")
                source = f"hwmon {chip} {value_file.name}"
                yield single(f"{chip} {label}", "temperature", "CPU", source, file_number, value_file, 1e-3)


def _zone_probes(root: Path) -> Iterator[Probe]:
    folders = root.glob("sys/class/thermal/thermal_zone[0-9]*")
    for folder in sorted(folders, key=lambda folder: int(folder.name.removeprefix("thermal_zone"))):
        name = read_text(folder / "type") or folder.name
        yield single(name, "temperature", part_of(name), f"{folder.name}/temp", _zone_degrees, folder / "temp")


def _zone_degrees(path: Path) -> float:
    millidegrees = file_number(path)
    if millidegrees <= OFF_MILLIDEGREES:
        raise ValueError("what it measures is switched off")
    return millidegrees * 1e-3


def cpu_policies(root: Path) -> list[Path]:
    """Return the folders of cpufreq, one for cores that share a clock."""
    folders = root.glob("sys/devices/system/cpu/cpufreq/policy[0-9]*")
    return sorted(folders, key=lambda folder: int(folder.name.removeprefix("policy")))


def gpu_devices(root: Path) -> list[Path]:
    """Return the folders of devfreq that are a GPU's."""
    return [folder for folder in sorted(root.glob("sys/class/devfreq/*")) if GPU_DEVICE.search(folder.name)]


def find_cpu_clock(root: Path) -> Found:
    """Find the clock of the fastest core: idle cores are slow for other reasons."""
    policies = cpu_policies(root)[:MOST_POLICIES]
    if not policies:
        return Found(missing={"clock of the CPU": "there is no cpufreq"})
    source = f"highest scaling_cur_freq of {len(policies)} policies"
    found = Found()
    found.add("clock of the CPU", single("CPU clock", "clock", "CPU", source, _highest_mhz, policies))
    return found


def _highest_mhz(policies: list[Path]) -> float:
    clocks = []
    for folder in policies:
        with suppress(OSError, ValueError):  # a core that is switched off
            clocks.append(file_number(folder / "scaling_cur_freq"))
    if not clocks:
        raise ValueError("no core reports its clock")
    return max(clocks) * 1e-3


def find_gpu_clock(root: Path) -> Found:
    """Find clock and load of a Jetson's GPU."""
    found, devices = Found(), gpu_devices(root)
    for folder in devices:
        name, source = f"GPU clock ({folder.name})", f"devfreq {folder.name}/cur_freq"
        found.add("clock of the GPU", single(name, "clock", "GPU", source, file_number, folder / "cur_freq", 1e-6))
    if not devices:
        found.missing["clock of the GPU"] = "devfreq shows no GPU"
    loads = [folder / "device/load" for folder in devices] + [root / "sys/devices/platform/gpu.0/load"]
    load = next((path.relative_to(root) for path in loads if path.is_file()), None)
    if load:
        name = f"GPU load ({load.parts[3]})"
        found.add("load of the GPU", single(name, "load", "GPU", str(load), file_number, root / load, 0.1))
    else:
        found.missing["load of the GPU"] = "this JetPack has no file for it"
    return found


def find_limits(root: Path) -> Found:
    """Find alerts of a Jetson, its over-current events, and the throttle count of an Intel CPU."""
    probes = [probe for probe in _limit_probes(root) if not probe.sample()[1]]
    return Found(probes) if probes else Found(missing={"throttling": "no file of this machine reports throttling"})


def _limit_probes(root: Path) -> Iterator[Probe]:
    """Return each source of throttling, whether it answers or not.

    Every event of under-voltage or over-current lowers the clocks for a moment.
    """
    for folder in sorted(root.glob("sys/class/thermal/cooling_device*")):
        name = read_text(folder / "type") or ""
        if name.endswith(ALERTS):
            yield single(name, "throttle", "all", f"{folder.name}/cur_state", _is_active, folder / "cur_state")
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for path in sorted(folder.glob("oc*_event_cnt")) if read_text(folder / "name") == "soctherm_oc" else ():
            name = f"over-current or under-voltage event {path.name.removesuffix('_event_cnt')}"
            yield single(name, "throttle", "all", path.name, _rising(path))
    source = "package_throttle_count"
    yield single("thermal throttling of the CPU", "throttle", "CPU", source, _rising(root / PACKAGE_COUNT))


def _is_active(path: Path) -> float:
    return float(file_number(path) > 0)


def _rising(path: Path) -> Callable[[], float]:
    """Return a reader of 1 when the count in a file has risen since the last reading, else 0."""
    rise = rise_in(path)
    return lambda: float(rise() > 0)
