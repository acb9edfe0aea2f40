"""What ``drc-deploy report`` does: pages and tables from one report, or from those of several machines."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy import __version__, records
from drc_deploy.bench.page import render_page
from drc_deploy.bench.publishing.crop_files import copy_crops, present_crops
from drc_deploy.bench.publishing.csv_table import csv_text
from drc_deploy.bench.publishing.markdown_report import markdown_text
from drc_deploy.bench.publishing.merged import (
    MERGED_FILE,
    MergedReports,
    find_notes,
    merged_json,
    read_reports,
    refuse_twins,
)
from drc_deploy.bench.publishing.merged_page import render_merged_page
from drc_deploy.bench.report import REPORT_FILE, Report
from drc_deploy.errors import UsageError
from drc_deploy.files import check_writable, write_text


@dataclass(frozen=True, slots=True)
class Published:
    """What was written."""

    files: dict[str, str]
    """``report`` (the JSON), ``page``, ``markdown`` and ``csv`` -> path."""
    notes: tuple[str, ...]
    """What is not in them, and what must be known to read them."""


def write_tables(reports: Sequence[Report], folder: Path, stem: str = "report") -> dict[str, str]:
    """Write Markdown and CSV into ``folder`` and give their paths.

    Raises:
        OutputError: one cannot be written.
    """
    markdown, table = folder / f"{stem}.md", folder / f"{stem}.csv"
    write_text(markdown, markdown_text(reports))
    write_text(table, csv_text(reports))
    return {"markdown": str(markdown), "csv": str(table)}


def publish(paths: Sequence[Path], out: Path | None, default_out: Path) -> Published:
    """Write the page, Markdown and CSV of the reports in ``paths``; of several, also one JSON of all.

    Args:
        paths: JSON files of one report, or of several that were merged.
        out: Folder of the results. None means beside the file where there is but one, else ``default_out``.
        default_out: Where several reports go.

    Raises:
        UsageError: the results would overwrite the page of a report that is read.
        ArtefactError: a report cannot be used, or comes twice.
        OutputError: a result cannot be written.
    """
    found = [(path, report) for path in paths for report in read_reports(path)]
    if len(paths) == 1:
        return _publish_again(paths[0], [report for _, report in found], out)
    refuse_twins([(str(path), report) for path, report in found])
    folder = out or default_out
    for path in paths:
        if path.resolve().parent == folder.resolve():
            raise UsageError(f"{folder} is the folder of {path}, whose page would be lost.", "Give another --out.")
    return _publish_merged(found, folder)


def _publish_again(path: Path, reports: Sequence[Report], out: Path | None) -> Published:
    """Write what belongs beside a JSON again, or all of it elsewhere."""
    if len(reports) > 1 or path.name == MERGED_FILE:
        return _publish_merged([(path, report) for report in reports], out or path.parent)
    folder, stem = out or path.parent, "report" if out else path.stem
    check_writable(folder)
    report, note = present_crops(reports[0], path.parent)
    target = folder / REPORT_FILE if out else path
    if target.resolve() != path.resolve():
        report = copy_crops(report, path.parent, folder)
        write_text(target, records.to_json(report) + "\n")
    page = folder / f"{stem}.html"
    write_text(page, render_page(report, folder))
    files = {"report": str(target), "page": str(page)} | write_tables([report], folder, stem)
    return Published(files, (note,) if note else ())


def _publish_merged(found: Sequence[tuple[Path, Report]], folder: Path) -> Published:
    check_writable(folder)
    reports, notes = [], []
    for index, (path, report) in enumerate(found):
        kept, note = present_crops(report, path.parent)
        notes += [f"{path}: {note}"] if note else []
        in_place = path.resolve().parent == folder.resolve()
        reports.append(kept if in_place else copy_crops(kept, path.parent, folder, f"{index + 1}_"))
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    merged = MergedReports(created, __version__, tuple(reports))
    target, page = folder / MERGED_FILE, folder / "report.html"
    write_text(target, merged_json(merged))
    write_text(page, render_merged_page(merged, folder))
    files = {"report": str(target), "page": str(page)} | write_tables(reports, folder)
    return Published(files, (*find_notes(reports), *notes))
