"""``report.md``: the result of one or more reports in Markdown, for a comment or a page of a project."""

import re
from collections.abc import Sequence

from drc_deploy.bench.report.conclusions import timed_otherwise
from drc_deploy.bench.report.merged import machine_labels
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.show.figures import MISSING, STAR, figure_rows, interval_text, shown_columns
from drc_deploy.printing import one_line

_SPECIAL = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_PLAIN_CODE = re.compile(r"[^`|\\]*[^`|\\ ][^`|\\]*")


def prose(text: str) -> str:
    """Return text that Markdown shows as it is, also in a cell of a table."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", one_line(text))


def code(text: str) -> str:
    """Return a name as code, so that nothing in it is markup, a link or a mention, also in a cell of a table."""
    text = one_line(text)
    if _PLAIN_CODE.fullmatch(text):
        return f"`{text}`"
    return f"<code>{re.sub('[^A-Za-z0-9 ./-]', lambda found: f'&#{ord(found[0])};', text)}</code>"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with the first column on the left and the others, which are numbers, on the right.

    Cells are Markdown: pass what may hold special characters through ``prose`` or ``code``.
    """
    widths = [max(2, *(len(row[column]) for row in (headings, *rows))) for column in range(len(headings))]
    rules = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(headings, widths), f"| {' | '.join(rules)} |"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return f"| {' | '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])} |"


def markdown_text(reports: Sequence[Report]) -> str:
    """Return for each report its sentence, its table, its machine, and what was left out or is uncertain."""
    parts = [_report(report, label) for label, report in zip(machine_labels(reports), reports, strict=True)]
    return "\n\n".join(parts) + "\n"


def _report(report: Report, label: str) -> str:
    parts = [f"### {prose(label)}", f"**{prose(report.summary)}**"]
    if report.engines:
        parts.append(_table(report))
    parts += [_machine(report), _points(report)]
    return "\n\n".join(part for part in parts if part)


def _table(report: Report) -> str:
    rows = figure_rows(report)
    texts = [row.texts for row in rows if row.engine]
    columns = [one for one in shown_columns(report) if any(text[one.key] != MISSING for text in texts)]
    headings = ["engine", *(column.title for column in columns)]
    headings[1] += " (95 %)"  # the median, which every engine has
    cells = []
    for row in rows:
        figures = [prose(row.texts[column.key]) for column in columns]
        if row.engine and row.engine.latency.median_interval_ms:
            figures[0] += f" ({interval_text(row.engine.latency.median_interval_ms)})"
        cells.append([code(row.name) if row.engine else row.name, *figures])
    return table(headings, cells)


def _machine(report: Report) -> str:
    """Say where, when and on what it was measured."""
    machine, settings = report.machine, report.settings
    gpus = ", ".join(f"{gpu.name} (driver {gpu.driver})" for gpu in machine.gpus)
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items() if name != "drc-deploy")
    words = [
        machine.board or "",
        f"{machine.cpu or 'unknown processor'}, {machine.logical_cores} cores",
        gpus,
        packages,
        f"input {settings.width}x{settings.height}",
        f"drc-deploy {report.version}, {report.created}",
    ]
    return prose("; ".join(word for word in words if word))


def _points(report: Report) -> str:
    timed = {engine.name: otherwise for engine in report.engines if (otherwise := timed_otherwise(engine))}
    other = "is timed in another way, so its median does not compare with the others: a run is"
    points = [f"{prose(STAR)} {code(name)} {other} {prose(otherwise)}" for name, otherwise in timed.items()]
    points += [f"{item.kind}: {code(item.name)}: {prose(item.reason)}" for item in report.not_measured]
    points += [f"warning: {prose(warning)}" for warning in report.warnings]
    return "\n".join(f"- {point}" for point in points)
