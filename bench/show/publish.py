"""Pages and tables from one report, or from the reports of several machines, for ``drc-deploy report``."""

import dataclasses
import datetime
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from drc_deploy import __version__
from drc_deploy.bench.report.crop_files import copy_crops, present_crops
from drc_deploy.bench.report.merged import find_notes, refuse_twins, run_key
from drc_deploy.bench.report.records import CROPS_FOLDER, MergedReports, Report
from drc_deploy.bench.report.report_files import MERGED_FILE, REPORT_FILE, read_any, report_text, reports_in
from drc_deploy.bench.show.csv import csv_text
from drc_deploy.bench.show.markdown import markdown_text
from drc_deploy.bench.show.merged_page import render_merged_page
from drc_deploy.bench.show.page import render_page
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import new_folder, write_texts


@dataclass(frozen=True, slots=True)
class Published:
    """The files that were written."""

    files: dict[str, str]
    """``report`` (the JSON), ``page``, ``markdown`` and ``csv`` -> path."""
    notes: tuple[str, ...]
    """What is missing in them, and how to read them."""


def write_files(
    content: Report | MergedReports, folder: Path, stem: str = "report", json: Path | None = None
) -> dict[str, str]:
    """Write page, Markdown and CSV, and ``json`` where it is a path, all or none of them.

    Args:
        content: what they show.
        folder: where they go and the crops lie.
        stem: of their names.
        json: where the report itself goes.

    Returns:
        Their paths.

    Raises:
        ArtefactError: a crop is missing.
        OutputError: a file cannot be written.
    """
    reports = reports_in(content)
    page = render_merged_page(content, folder) if isinstance(content, MergedReports) else render_page(content, folder)
    texts = {"page": (".html", page), "markdown": (".md", markdown_text(reports)), "csv": (".csv", csv_text(reports))}
    files = {kind: folder / f"{stem}{suffix}" for kind, (suffix, _) in texts.items()}
    report = {json: report_text(content)} if json else {}
    write_texts(report | {files[kind]: text for kind, (_, text) in texts.items()})
    return {kind: str(path) for kind, path in files.items()}


def publish(paths: Sequence[Path], out: Path | None, default_out: Path) -> Published:
    """Write the page, Markdown and CSV of the reports in ``paths``; for several, also one JSON of all.

    Args:
        paths: JSON files of one report, or of several that were merged.
        out: Folder of the results. None means the folder of a single file, else ``default_out``.
        default_out: Where several reports go.

    Raises:
        UsageError: the results would overwrite another report, or its page.
        ArtefactError: a report cannot be used, or was given twice.
        OutputError: a result cannot be written.
    """
    found = [(path, read_any(path)) for path in paths]
    if len(found) == 1:
        return _publish_again(*found[0], out)
    return _merge([(path, report) for path, content in found for report in reports_in(content)], out or default_out)


def _publish_again(path: Path, content: Report | MergedReports, out: Path | None) -> Published:
    """Write the files next to a JSON again, or all of them into another folder."""
    folder = out or path.parent
    file = MERGED_FILE if isinstance(content, MergedReports) else REPORT_FILE
    target = folder / file if out else path
    elsewhere = target.resolve() != path.resolve()
    if elsewhere and target.exists() and not _holds(target, content):
        raise UsageError(f"{target} holds another report, which would be lost.", "Use another --out.")
    kept, notes = _present(path, reports_in(content))
    stem = "report" if out or path.name == MERGED_FILE else path.stem
    with new_folder(folder / CROPS_FOLDER if elsewhere else folder), ExitStack() as undo:
        if elsewhere:
            kept = [copy_crops(report, path.parent, folder, undo) for report in kept]
        content = dataclasses.replace(content, reports=tuple(kept)) if isinstance(content, MergedReports) else kept[0]
        files = write_files(content, folder, stem, target if elsewhere else None)
        undo.pop_all()
    return Published({"report": str(target)} | files, tuple(notes))


def _holds(path: Path, content: Report | MergedReports) -> bool:
    """Return whether a file holds the same runs."""
    try:
        there = reports_in(read_any(path))
    except ArtefactError:
        return False
    return list(map(run_key, there)) == list(map(run_key, reports_in(content)))


def _merge(found: Sequence[tuple[Path, Report]], folder: Path) -> Published:
    refuse_twins(found)
    if (folder / REPORT_FILE).exists() or any(path.resolve().parent == folder.resolve() for path, _ in found):
        raise UsageError(f"{folder} is the folder of a report, whose page would be lost.", "Use another --out.")
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    target = folder / MERGED_FILE
    reports, notes = [], []
    with new_folder(folder / CROPS_FOLDER), ExitStack() as undo:
        for index, (path, report) in enumerate(found):
            (kept,), missing = _present(path, [report])
            notes += missing
            reports.append(copy_crops(kept, path.parent, folder, undo, f"{index + 1}_"))
        files = write_files(MergedReports(created, __version__, tuple(reports)), folder, json=target)
        undo.pop_all()
    return Published({"report": str(target)} | files, (*find_notes(reports), *notes))


def _present(path: Path, reports: Sequence[Report]) -> tuple[list[Report], list[str]]:
    """Return the reports without the crops that are gone, and a note on each of those."""
    kept = [present_crops(report, path.parent) for report in reports]
    return [report for report, _ in kept], [f"{path}: {note}" for _, note in kept if note]
