"""Groups that were measured, kept on disk until the whole suite is: a run that is killed goes on behind them."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from drc_deploy import __version__, records
from drc_deploy.bench.machine.machine import Machine
from drc_deploy.bench.programs.supported import LIBRARIES
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import read_report
from drc_deploy.bench.run.benchmark import BenchOptions
from drc_deploy.bench.suite.matrix import PlannedCase
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text

FOLDER = "suite.state"
_CHANGING = ("load_average", "unavailable")
"""What of a machine differs from one minute to the next."""


class State:
    """The folder ``suite.state`` beside the report; a file per group, named by all that its figures depend on."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER

    def kept(self, key: str) -> Report | None:
        """Return the report of a group that was measured; None where there is none, or it cannot be read."""
        path = self._path(key)
        try:
            return read_report(path) if path.is_file() else None
        except ArtefactError:
            return None  # measured again, and written anew

    def keep(self, key: str, report: Report) -> None:
        """Write the report of a group.

        Raises:
            OutputError: the disk is full, or not writable.
        """
        write_text(self._path(key), records.to_json(report) + "\n")

    def forget(self) -> None:
        """Remove the folder: the next suite measures anew."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def group_key(cases: Sequence[PlannedCase], options: BenchOptions, machine: Machine) -> str:
    """Return what stands for everything that the figures of a group depend on, as 64 hexadecimal digits."""
    fixed = {name: value for name, value in dataclasses.asdict(machine).items() if name not in _CHANGING}
    parts = {
        "version": __version__,
        "cases": [(planned.subject.name, planned.sha256, dataclasses.asdict(planned.case)) for planned in cases],
        "machine": fixed,
        "settings": (options.height, options.width, options.min_runs, options.min_seconds, options.threads),
        "images": (str(options.data), options.lr_folder, _image_files(options.data)),
        "peers": {name: _versions(name) for name in options.against},
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
