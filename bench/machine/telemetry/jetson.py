"""Which Jetson this is and how it is set: release, power mode, clocks."""

import re
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.proc_files import read_text

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


@dataclass(frozen=True, slots=True)
class Release:
    """The software of a Jetson."""

    l4t: str | None
    """None where its file is missing, as in some containers."""
    jetpack: str | None
    """None when this program does not know the release."""


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
