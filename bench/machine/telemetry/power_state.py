"""How the machine is set to draw power: mode, clocks, limits. Figures of another setting do not compare."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.machine.telemetry.files import cpu_policies, gpu_devices
from drc_deploy.errors import MissingDependencyError
from drc_deploy.proc_files import read_text
from drc_deploy.runtime.machine.nvml import Gpu

RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
POWER_MODE = re.compile(r"NV Power Mode: *(\S.*?) *(?:\n\s*(\d+)\s*)?$", re.MULTILINE)
CORE_LINE = re.compile(r"^cpu\d+: +Online=1 .*?MinFreq=(\d+) MaxFreq=(\d+)", re.MULTILINE)
GPU_LINE = re.compile(r"^GPU MinFreq=(\d+) MaxFreq=(\d+)", re.MULTILINE)

JETPACKS = {
    "35.1": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5": "5.1.3",
    "35.6": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3": "6.0",
    "36.4": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5": "6.2.2",
    "36.5.2": "6.2.3",
    "38.2": "7.0",
    "38.2.1": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
    "39.2.1": "7.2.1",
}
"""Release of L4T, without zeros at its end -> JetPack (NVIDIA's JetPack archive)."""
MAJOR = {"35": "5", "36": "6", "38": "7", "39": "7"}

NO_JETSON = "this machine is not a Jetson"
NO_RELEASE = "/etc/nv_tegra_release is not there, as in some containers"

Run = Callable[[Sequence[str]], str]
"""Returns the output of a command; raises MissingDependencyError if it is missing or fails."""


@dataclass(frozen=True, slots=True)
class Release:
    """The software of a Jetson."""

    l4t: str | None
    """None where its file is missing, as in some containers."""
    jetpack: str | None
    """None when this program does not know the release."""


@dataclass(frozen=True, slots=True)
class PowerState:
    """Settings, read before the run. A field that is None has its reason in ``unavailable``."""

    l4t: str | None
    """Release of a Jetson's software."""
    jetpack: str | None
    power_mode: str | None
    """Name and number, as reported by ``nvpmodel``."""
    clocks_locked: bool | None
    """Whether every clock has but one value, as after ``jetson_clocks``."""
    cpu_governor: str | None
    gpu_limits: tuple[Gpu, ...]
    unavailable: dict[str, str]


def read_power_state(root: Path, release: Release | None, run: Run, limits: tuple[Gpu, ...]) -> PowerState:
    """Read how the machine is set; ``limits`` are the GPUs as NVML describes them."""
    unavailable = _unknown_of(release)
    mode = _power_mode(run, unavailable) if release else None
    locked = _jetson_clocks(run) if release else None
    if locked is None:
        locked = _files_show_fixed_clocks(root)
    if locked is None:
        unavailable["clocks_locked"] = "no file shows the range of any clock"
    governors = {governor for folder in cpu_policies(root) if (governor := read_text(folder / "scaling_governor"))}
    if not governors:
        unavailable["cpu_governor"] = "there is no cpufreq"
    if not limits:
        unavailable["gpu_limits"] = "NVML reports no GPU"
    return PowerState(
        l4t=release.l4t if release else None,
        jetpack=release.jetpack if release else None,
        power_mode=mode,
        clocks_locked=locked,
        cpu_governor=", ".join(sorted(governors)) or None,
        gpu_limits=limits,
        unavailable=unavailable,
    )


def jetson_release(root: Path) -> Release | None:
    """Return the release below ``root``; None on a machine that is no Jetson."""
    match = RELEASE.search(read_text(root / "etc/nv_tegra_release") or "")
    if match is None:
        return Release(None, None) if "Jetson" in (read_text(root / "proc/device-tree/model") or "") else None
    l4t = f"{match[1]}.{match[2]}"
    known = JETPACKS.get(re.sub(r"(\.0)+$", "", l4t))
    major = MAJOR.get(match[1])
    return Release(l4t, known or (f"{major} (of a later release than this program knows)" if major else None))


def parse_power_mode(text: str) -> str | None:
    """Return the power mode in what ``nvpmodel -q`` printed, such as ``MAXN (0)``."""
    match = POWER_MODE.search(text)
    return (f"{match[1]} ({match[2]})" if match[2] else match[1]) if match else None


def parse_clocks_locked(text: str) -> bool | None:
    """Return whether every clock that ``jetson_clocks --show`` printed has but one value; None if it shows none.

    The memory's clock has a range also when it is locked, and does not count.
    """
    ranges = CORE_LINE.findall(text) + GPU_LINE.findall(text)
    return all(low == high for low, high in ranges) if ranges else None


def _unknown_of(release: Release | None) -> dict[str, str]:
    """Return what a release leaves unknown, with the reasons."""
    if release is None:
        return dict.fromkeys(("l4t", "jetpack", "power_mode"), NO_JETSON)
    if release.l4t is None:
        return {"l4t": NO_RELEASE, "jetpack": NO_RELEASE}
    return {} if release.jetpack else {"jetpack": f"this program does not know L4T {release.l4t}"}


def _power_mode(run: Run, unavailable: dict[str, str]) -> str | None:
    try:
        mode = parse_power_mode(run(["nvpmodel", "-q"]))
    except MissingDependencyError as error:
        unavailable["power_mode"] = error.message
        return None
    if mode is None:
        unavailable["power_mode"] = "nvpmodel -q printed nothing that is known"
    return mode


def _jetson_clocks(run: Run) -> bool | None:
    try:
        return parse_clocks_locked(run(["jetson_clocks", "--show"]))
    except MissingDependencyError:  # most often because it wants root
        return None


def _files_show_fixed_clocks(root: Path) -> bool | None:
    """Compare the files that ``jetson_clocks`` sets; None where there are none."""
    ranges = [_is_fixed(folder, "scaling_min_freq", "scaling_max_freq") for folder in cpu_policies(root)]
    for folder in gpu_devices(root):
        # On JetPack 7 the governor `performance` fixes the clock, at its highest value.
        fixed = read_text(folder / "governor") == "performance"
        ranges.append(fixed or _is_fixed(folder, "min_freq", "max_freq"))
    known = [fixed for fixed in ranges if fixed is not None]
    return all(known) if known else None


def _is_fixed(folder: Path, low: str, high: str) -> bool | None:
    lowest, highest = read_text(folder / low), read_text(folder / high)
    return None if lowest is None or highest is None else lowest == highest


def power_state_text(state: PowerState) -> str:
    """Return the settings that are known, in one line; empty if none is."""
    return ", ".join(_words(state))


def _words(state: PowerState) -> Iterable[str]:
    if state.l4t:
        yield f"L4T {state.l4t}" + (f" (JetPack {state.jetpack})" if state.jetpack else "")
    if state.power_mode:
        yield f"power mode {state.power_mode}"
    if state.clocks_locked is not None:
        yield "clocks locked" if state.clocks_locked else "clocks not locked"
    if state.cpu_governor:
        yield f"CPU governor {state.cpu_governor}"
    for gpu in state.gpu_limits:
        if gpu.power_limit_w is not None:
            yield f"{gpu.name} limited to {gpu.power_limit_w:.0f} W"
