"""Reports as files: written, read and checked."""

from contextlib import suppress
from pathlib import Path

from drc_deploy import records
from drc_deploy.bench.report.checks import check_report
from drc_deploy.bench.report.records import MergedReports, Report
from drc_deploy.errors import ArtefactError
from drc_deploy.files import read_sealed, write_sealed, write_text
from drc_deploy.input_files import read_text

REPORT_FILE = "report.json"
MERGED_FILE = "reports.json"
UNFINISHED_FILE = "unfinished.json"


def write_report(report: Report | MergedReports, folder: Path, name: str = REPORT_FILE) -> Path:
    """Write one report or several as JSON into ``folder`` and return the path.

    Raises:
        OutputError: the disk is full, or not writable.
    """
    path = folder / name
    write_text(path, report_text(report))
    return path


def report_text(report: Report | MergedReports) -> str:
    """Return the JSON of one report or of several."""
    return records.to_json(report) + "\n"


def read_report(path: Path) -> Report:
    """Read a ``report.json``.

    Raises:
        ArtefactError: it is missing, damaged, impossible, or of another version or program.
    """
    return _single(read_any(path), path)


def _single(content: Report | MergedReports, path: Path) -> Report:
    if isinstance(content, MergedReports):
        raise _no_report(path)
    return content


def write_part(report: Report, path: Path) -> None:
    """Write a report that a later run goes on from, with a checksum.

    Raises:
        OutputError: the disk is full, or not writable.
    """
    write_sealed(path, records.to_json(report))


def read_part(path: Path) -> Report | None:
    """Read what ``write_part`` wrote; None where there is nothing, or nothing that is as it was written."""
    text = read_sealed(path)
    if text is None:
        return None
    try:
        return _single(_parsed(text, path), path)
    except ArtefactError:  # of another version
        return None


def may_hold_figures(path: Path) -> bool:
    """Return whether a file is a report with engines, or one that cannot be read here, as of another version."""
    try:
        return bool(read_report(path).engines)
    except ArtefactError:
        return path.exists()


def read_any(path: Path) -> Report | MergedReports:
    """Read a ``report.json`` or a ``reports.json``.

    Raises:
        ArtefactError: it is missing, damaged, impossible, or of another version or program.
    """
    if path.is_dir():
        raise ArtefactError(f"{path} is a folder.", f"Give the {REPORT_FILE} in it.")
    try:
        text = read_text(path)
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Make it with `drc-deploy bench`.") from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is not text.", "Make it with `drc-deploy bench`.") from error
    return _parsed(text, path)


def _parsed(text: str, path: Path) -> Report | MergedReports:
    data = records.parse_json_object(text, str(path))
    if "reports" not in data and not {"machine", "settings"} <= data.keys():
        raise _no_report(path)
    kind: type[Report] | type[MergedReports] = MergedReports if "reports" in data else Report
    content = records.from_dict(kind, data, str(path))
    if not reports_in(content):
        raise ArtefactError(f"{path} holds no report.", "Merge the reports again.")
    for report in reports_in(content):
        check_report(report, str(path))
    return content


def reports_in(content: Report | MergedReports) -> tuple[Report, ...]:
    """Return all reports; a ``report.json`` has one."""
    return content.reports if isinstance(content, MergedReports) else (content,)


def _no_report(path: Path) -> ArtefactError:
    return ArtefactError(f"{path} is not a report.", f"Give a {REPORT_FILE} that `drc-deploy bench` wrote.")


class KeptReport:
    """A report in a file that is written again as its run goes on, so that a run that is killed leaves it.

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
        write_report(report, self.path.parent, self.path.name)

    def forget(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink()
