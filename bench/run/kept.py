"""A report in a file that is written again as its run goes on, so that a run that is killed leaves it."""

from contextlib import suppress
from pathlib import Path

from drc_deploy import records
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import read_report
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text

UNFINISHED_FILE = "unfinished.json"


class KeptReport:
    """One such file.

    Attributes:
        path: The file.
        latest: The report that was kept last; None: none was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.latest: Report | None = None

    def keep(self, report: Report) -> None:
        """Write a report in the place of the one before.

        Raises:
            OutputError: the disk is full, or not writable.
        """
        self.latest = report
        write_text(self.path, records.to_json(report) + "\n")

    def read(self) -> Report | None:
        """Return what an earlier run left; None where there is nothing, or nothing that can be read."""
        try:
            return read_report(self.path) if self.path.is_file() else None
        except ArtefactError:
            return None

    def forget(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink()
