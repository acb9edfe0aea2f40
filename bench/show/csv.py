"""``report.csv``: one row for each engine of one or more reports, for spreadsheets and scripts.

The names of the columns do not change; new ones are added at the end. Units are in the names, and a cell is empty where
the figure is unavailable. Numbers are not rounded.
"""

import csv
import io
from collections.abc import Iterable, Sequence

from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.merged import machine_labels
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.show.figures import COLUMNS, Value
from drc_deploy.printing import one_line

NAMES = (
    *("machine", "created", "drc_deploy", "engine", "status", "reason"),
    *(column.key for column in COLUMNS),
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs text that begins with one of these."""


def csv_text(reports: Sequence[Report]) -> str:
    """Return the table with its head: the engines of each report, fastest first, then those left out."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, NAMES, restval="", lineterminator="\n")
    writer.writeheader()
    for label, report in zip(machine_labels(reports), reports, strict=True):
        about = {"machine": label, "created": report.created, "drc_deploy": report.version}
        for row in _rows(report):
            writer.writerow({name: _cell(value) for name, value in (about | row).items()})
    return stream.getvalue()


def _rows(report: Report) -> Iterable[dict[str, Value]]:
    for engine in by_latency(report.engines):
        figures = {column.key: column.value(report, engine) for column in COLUMNS}
        yield {"engine": engine.name, "status": "measured", **figures}
    for item in report.not_measured:
        yield {"engine": item.name, "status": item.kind, "reason": f"{item.reason} {item.hint}".rstrip()}


def _cell(value: Value) -> Value:
    """Return what is written: nothing for None, and no text that a spreadsheet would run as a formula."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = f"'{value}" if value.startswith(FORMULA_STARTS) else value
    return one_line(text)
