"""What the figures of a group depend on: a group is not measured again where all of it is the same."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from drc_deploy import __version__
from drc_deploy.bench.machine.machine import Machine
from drc_deploy.bench.programs.supported import LIBRARIES
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.suite.matrix import PlannedCase

_CHANGING = ("load_average", "unavailable")
"""What of a machine differs from one minute to the next."""


def group_key(cases: Sequence[PlannedCase], options: BenchOptions, machine: Machine) -> str:
    """Return what stands for everything that the figures of a group depend on, as 64 hexadecimal digits."""
    fixed = {name: value for name, value in dataclasses.asdict(machine).items() if name not in _CHANGING}
    parts = {
        "version": __version__,
        "cases": [(planned.file.name, planned.sha256, dataclasses.asdict(planned.case)) for planned in cases],
        "machine": fixed,
        "settings": (options.height, options.width, options.min_runs, options.min_seconds, options.threads),
        "images": (str(options.data), options.lr_folder, _image_files(options.data)),
        "programs": {name: _versions(name) for name in options.against},
        "seconds": options.case_seconds,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _image_files(data: Path | None) -> list[tuple[str, int, int]]:
    """Return the files in the folders of ``data`` with size and time of change."""
    if data is None:
        return []
    files = sorted(path for path in data.glob("*/*") if path.is_file())
    return [(str(path.relative_to(data)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _versions(library: str) -> dict[str, str]:
    versions = {}
    for package in LIBRARIES[library].packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions
