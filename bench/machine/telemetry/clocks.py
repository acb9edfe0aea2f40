"""Clocks and load from files: cores through cpufreq, the GPU of a Jetson through devfreq."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drc_deploy.bench.machine.telemetry.sensors import Found, Probe, Sensor, answers, file_number, scaled_file, single

MOST_POLICIES = 16
"""Reading a core's clock may interrupt that core: not all of a large machine."""
GPU_DEVICE = re.compile(r"(^gpu-gpc-\d+|\.(gpu|ga10b|gv11b|gp10b|gm20b))$")
"""Names in ``sys/class/devfreq`` that are a GPU's: 17000000.ga10b (JetPack 5), 17000000.gpu (6), gpu-gpc-0 (Thor)."""


def cpu_policies(root: Path) -> list[Path]:
    """Return the folders of cpufreq, one for cores that share a clock."""
    return sorted(
        root.glob("sys/devices/system/cpu/cpufreq/policy[0-9]*"),
        key=lambda folder: int(folder.name.removeprefix("policy")),
    )


def gpu_devices(root: Path) -> list[Path]:
    """Return the folders of devfreq that are a GPU's."""
    return [folder for folder in sorted(root.glob("sys/class/devfreq/*")) if GPU_DEVICE.search(folder.name)]


def find_cpu_clock(root: Path) -> Found:
    """Find the clock of the fastest core: idle cores are slow for other reasons."""
    policies = cpu_policies(root)[:MOST_POLICIES]
    source = f"highest scaling_cur_freq of {len(policies)} policies"
    probe = single(Sensor("CPU clock", "clock", "CPU", source), _highest_mhz(policies))
    reason = answers(probe) if policies else "there is no cpufreq"
    return Found(missing={"clock of the CPU": reason}) if reason else Found((probe,))


def find_gpu_clock(root: Path) -> Found:
    """Find clock and load of a Jetson's GPU."""
    probes: list[Probe] = []
    for folder in gpu_devices(root):
        sensor = Sensor(f"GPU clock ({folder.name})", "clock", "GPU", f"devfreq {folder.name}/cur_freq")
        probes.append(single(sensor, scaled_file(folder / "cur_freq", 1e-6)))
    loads = [folder / "device/load" for folder in gpu_devices(root)] + [root / "sys/devices/platform/gpu.0/load"]
    load = next((path for path in loads if path.is_file()), None)
    if load:
        source = str(load.relative_to(root))
        name = f"GPU load ({load.relative_to(root).parent.parts[3]})"
        probes.append(single(Sensor(name, "load", "GPU", source), scaled_file(load, 0.1)))
    missing = {f"{probe.sensors[0].kind} of the GPU": why for probe in probes if (why := answers(probe))}
    if not gpu_devices(root):
        missing["clock of the GPU"] = "devfreq shows no GPU"
    if load is None:
        missing["load of the GPU"] = "this JetPack has no file for it"
    return Found(tuple(probe for probe in probes if answers(probe) is None), (), missing)


def _highest_mhz(policies: list[Path]) -> Callable[[], float]:
    files = [folder / "scaling_cur_freq" for folder in policies]

    def read() -> float:
        clocks = []
        for path in files:
            with suppress(OSError, ValueError):  # a core that is switched off
                clocks.append(file_number(path))
        if not clocks:
            raise ValueError("no core reports its clock")
        return max(clocks) * 1e-3

    return read
