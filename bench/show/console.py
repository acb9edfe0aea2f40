"""Results as tables for a terminal."""

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.report.conclusions import timed_otherwise
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.show.figures import STAR, figure_rows, shown_columns
from drc_deploy.bench.show.sentences import measured_lines, peer_lines

PLAIN_WIDTH = 140
"""Columns where the output is no terminal and its width is unknown."""
_ANY_WIDTH = 10_000


def table_text(table: Table, otherwise: Table | None = None) -> str:
    """Return a table as wide as the terminal, or as a file may be; ``otherwise`` where the first is too wide.

    It has no styles: names in it may hold codes of a terminal, which are found where the text is printed.
    """
    terminal = Console()
    width = terminal.width if terminal.is_terminal else PLAIN_WIDTH
    # No markup: the names of files may hold brackets.
    console = Console(file=io.StringIO(), width=width, force_terminal=False, markup=False, emoji=False)
    if otherwise and Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum > width:
        table = otherwise
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def report_table(report: Report) -> str:
    """Return the summary, a row per engine, what was left out and why, and the warnings."""
    lines = [_figures(report)] if report.engines else []
    if any(map(timed_otherwise, report.engines)):
        lines.append(f"{STAR} timed in another way: its median does not compare with the others, so it comes last.")
    lines += [*measured_lines(report), report.summary]
    for item in report.not_measured:
        lines.append(f"{item.kind}: {item.name}: {item.reason} {item.hint}".rstrip())
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines += peer_lines(report.engines)
    lines += _telemetry_lines(report)
    return "\n".join(lines)


def _figures(report: Report) -> str:
    """Return a table with a row for each engine, or a column where that is too wide."""
    settings = report.settings
    title = f"{settings.width}x{settings.height} input, {report.machine.cpu or report.machine.system}"
    engines = [(row.name, *row.texts.values()) for row in figure_rows(report)]
    headings = ("engine", *(column.title for column in shown_columns(report)))
    names, *figures = zip(headings, *engines, strict=True)
    return table_text(_table(title, headings, engines), _table(title, ["", *names[1:]], figures))


def _telemetry_lines(report: Report) -> list[str]:
    """Say what was sampled, how the machine was set, and which samples are missing."""
    telemetry = report.telemetry
    if telemetry is None:
        return []
    state = power_state_text(telemetry.state)
    lines = [telemetry.summary, *([f"Set to: {state}."] if state else [])]
    energies = (engine.energy for engine in report.engines)
    covers = dict.fromkeys(f"{energy.covers} ({energy.of})" for energy in energies if energy)
    lines += [f"J per image is of {', '.join(covers)}; idle power is not subtracted."] if covers else []
    return [*lines, *(f"warning: {note}" for note in telemetry.notes)]
