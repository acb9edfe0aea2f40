"""A report on disk of what a run has measured so far: what stays when the run is killed or fails."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drc_deploy import records
from drc_deploy.bench.report.records import Report
from drc_deploy.errors import OutputError
from drc_deploy.files import write_text

UNFINISHED_FILE = "unfinished.json"
EVERY_S = 10.0
"""Between two versions: summarising all rounds and writing them takes less than a hundredth of that."""


class Unfinished:
    """The file ``unfinished.json`` in the folder of a report."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / UNFINISHED_FILE
        self._kept_s: float | None = None

    def keep(self, report_so_far: Callable[[], Report], *, at_once: bool = False) -> None:
        """Write the file anew, where some time has passed since the last one or the end is near.

        A full disk stops no run.
        """
        soon = self._kept_s is not None and time.monotonic() - self._kept_s < EVERY_S
        if soon and not at_once:
            return
        with suppress(OutputError):
            write_text(self.path, records.to_json(report_so_far()) + "\n")
        self._kept_s = time.monotonic()

    def forget(self) -> None:
        """Remove the file: the whole report is written, or another run begins."""
        self._kept_s = None
        with suppress(OSError):
            self.path.unlink()
