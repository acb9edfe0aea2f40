"""How the machine is set to draw power: mode, clocks, limits. Figures of another setting do not compare."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.bench.machine.nvml import Gpu
from drc_deploy.bench.machine.telemetry.commands import Run
from drc_deploy.bench.machine.telemetry.files import cpu_policies, gpu_devices
from drc_deploy.bench.machine.telemetry.jetson import Release, parse_clocks_locked, parse_power_mode
from drc_deploy.errors import MissingDependencyError
from drc_deploy.proc_files import read_text

NO_JETSON = "this machine is not a Jetson"
NO_RELEASE = "/etc/nv_tegra_release is not there, as in some containers"


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
    unavailable: dict[str, str] = {}
    if release is None:
        unavailable |= {"l4t": NO_JETSON, "jetpack": NO_JETSON, "power_mode": NO_JETSON}
    elif release.l4t is None:
        unavailable |= {"l4t": NO_RELEASE, "jetpack": NO_RELEASE}
    elif release.jetpack is None:
        unavailable["jetpack"] = f"this program does not know L4T {release.l4t}"
    mode = _power_mode(run, unavailable) if release else None
    locked = _clocks_locked(root, run, release, unavailable)
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


def _power_mode(run: Run, unavailable: dict[str, str]) -> str | None:
    try:
        mode = parse_power_mode(run(["nvpmodel", "-q"]))
    except MissingDependencyError as error:
        unavailable["power_mode"] = error.message
        return None
    if mode is None:
        unavailable["power_mode"] = "nvpmodel -q printed nothing that is known"
    return mode


def _clocks_locked(root: Path, run: Run, release: Release | None, unavailable: dict[str, str]) -> bool | None:
    """Ask ``jetson_clocks`` (which wants root), else compare the files that it would set."""
    if release:
        try:
            locked = parse_clocks_locked(run(["jetson_clocks", "--show"]))
        except MissingDependencyError:
            locked = None
        if locked is not None:
            return locked
    ranges = [_is_fixed(folder / "scaling_min_freq", folder / "scaling_max_freq") for folder in cpu_policies(root)]
    ranges += [_gpu_is_fixed(folder) for folder in gpu_devices(root)]
    known = [fixed for fixed in ranges if fixed is not None]
    if not known:
        unavailable["clocks_locked"] = "no file shows the range of any clock"
        return None
    return all(known)


def _is_fixed(low: Path, high: Path) -> bool | None:
    lowest, highest = read_text(low), read_text(high)
    return None if lowest is None or highest is None else lowest == highest


def _gpu_is_fixed(folder: Path) -> bool | None:
    """On JetPack 7 the governor ``performance`` is what fixes the clock, at its highest value."""
    if read_text(folder / "governor") == "performance":
        return True
    return _is_fixed(folder / "min_freq", folder / "max_freq")


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
