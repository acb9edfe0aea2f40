"""Results as tables for a terminal."""

import io

from rich.console import Console
from rich.table import Table

from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.report.conclusions import timed_otherwise
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.show.figures import STAR, figure_rows, shown_columns
from drc_deploy.bench.show.sentences import measured_lines, peer_lines

PLAIN_WIDTH = 140
"""Columns where the output is no terminal and its width is unknown."""


def table_text(table: Table) -> str:
    """Return a table as wide as the terminal, or as a file may be.

    It has no styles: names in it may hold codes of a terminal, which are found where the text is printed.
    """
    terminal = Console()
    width = terminal.width if terminal.is_terminal else PLAIN_WIDTH
    # No markup: the names of files may hold brackets.
    console = Console(file=io.StringIO(), width=width, force_terminal=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def report_table(report: Report) -> str:
    """Return the summary, a row per engine, what was left out and why, and the warnings."""
    lines = [table_text(_figures(report))] if report.engines else []
    if any(map(timed_otherwise, report.engines)):
        lines.append(f"{STAR} timed in another way: its median does not compare with the others, so it comes last.")
    lines += [*measured_lines(report), report.summary]
    for item in report.not_measured:
        lines.append(f"{item.kind}: {item.name}: {item.reason} {item.hint}".rstrip())
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines += peer_lines(report.engines)
    lines += _telemetry_lines(report)
    return "\n".join(lines)


def _figures(report: Report) -> Table:
    settings = report.settings
    table = Table(title=f"{settings.width}x{settings.height} input, {report.machine.cpu or report.machine.system}")
    table.add_column("engine", overflow="fold")
    for column in shown_columns(report):
        table.add_column(column.title, justify="right")
    for row in figure_rows(report):
        table.add_row(row.name, *row.texts.values())
    return table


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
