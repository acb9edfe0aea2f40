"""The machine that a measurement belongs to: figures of another machine do not compare with it."""

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from drc_deploy.errors import MissingDependencyError
from drc_deploy.proc_files import cpu_name, read_text
from drc_deploy.runtime.machine.nvml import Gpu, LoadNvml, Nvml, load_nvml
from drc_deploy.runtime.memory.host import kib_field, usable_cores

PACKAGES = (
    "drc-deploy",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "torch",
    "tensorrt",
    "tensorrt-rtx",
    "pycuda",
)
"""Distributions whose version can change a figure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured on. A field that is None has its reason in ``unavailable``."""

    board: str | None
    """Name of a single-board computer, such as a Jetson; None elsewhere."""
    cpu: str | None
    logical_cores: int
    """Cores that this program may use."""
    memory_bytes: int | None
    system: str
    python: str
    packages: dict[str, str]
    """Versions of the packages that are installed."""
    gpus: tuple[Gpu, ...]
    load_average: float | None
    """Processes wanting to run over the last minute, as the measurement began."""
    unavailable: dict[str, str]


def describe_machine(root: Path = Path("/"), load: LoadNvml = load_nvml) -> Machine:
    """Describe this machine; tests put recorded files and a GPU driver of their own here."""
    unavailable: dict[str, str] = {}
    gpus: tuple[Gpu, ...] = ()
    try:
        with Nvml(load) as nvml:
            gpus = nvml.gpus()
    except MissingDependencyError as error:
        unavailable["gpus"] = error.message
    board = read_text(root / "proc/device-tree/model")
    cpu = cpu_name(root)
    memory_bytes = kib_field(root / "proc/meminfo", "MemTotal")
    if board is None:
        unavailable["board"] = "no device tree: an ordinary computer"
    if cpu is None:
        unavailable["cpu"] = "/proc/cpuinfo names none"
    if memory_bytes is None:
        unavailable["memory_bytes"] = "this system has no /proc/meminfo"
    return Machine(
        board=board,
        cpu=cpu,
        logical_cores=usable_cores(),
        memory_bytes=memory_bytes,
        system=platform.platform(),
        python=platform.python_version(),
        packages=installed_packages(),
        gpus=gpus,
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        unavailable=unavailable,
    )


def installed_packages(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    versions = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def machine_text(machine: Machine) -> str:
    """Return the machine in a few lines."""
    memory = f"{machine.memory_bytes / (1 << 30):.1f} GiB" if machine.memory_bytes else "unknown"
    gpus = ", ".join(f"{gpu.name} (driver {gpu.driver})" for gpu in machine.gpus)
    lines = [
        f"processor  {machine.cpu or 'unknown'}, {machine.logical_cores} cores usable, memory {memory}",
        f"GPU        {gpus or machine.unavailable.get('gpus', 'none')}",
        f"system     {machine.system}, Python {machine.python}",
        f"packages   {', '.join(f'{name} {version}' for name, version in machine.packages.items())}",
    ]
    return "\n".join([f"board      {machine.board}", *lines] if machine.board else lines)
