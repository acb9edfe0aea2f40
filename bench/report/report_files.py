"""Reports as files: written, read and checked."""

from pathlib import Path
from typing import Any

from drc_deploy import records
from drc_deploy.bench.report.checks import check_report
from drc_deploy.bench.report.records import Report
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_text

REPORT_FILE = "report.json"


PAGE_FILE = "report.html"


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` into ``folder`` and give its path."""
    path = folder / REPORT_FILE
    write_text(path, records.to_json(report) + "\n")
    return path


def read_report(path: Path) -> Report:
    """Read a ``report.json``.

    Raises:
        ArtefactError: it is missing, damaged, impossible, or of another version or program.
    """
    return report_from_dict(read_report_json(path), str(path))


def read_report_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file that should hold a report or several.

    Raises:
        ArtefactError: it is missing, or no JSON object.
    """
    if path.is_dir():
        raise ArtefactError(f"{path} is a folder.", f"Give the {REPORT_FILE} in it.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"cannot read {path}: {error}.", "Make it with `drc-deploy bench`.") from error
    return records.parse_json_object(text, str(path))


def report_from_dict(data: dict[str, Any], source: str) -> Report:
    """Build a report from parsed JSON and check it; ``source`` names the file in errors.

    Raises:
        ArtefactError: it is damaged, impossible, or of another version or program.
    """
    if not {"machine", "settings"} <= data.keys():
        raise ArtefactError(f"{source} is not a report.", f"Give a {REPORT_FILE} that `drc-deploy bench` wrote.")
    report = records.from_dict(Report, data, source)
    check_report(report, source)
    return report
