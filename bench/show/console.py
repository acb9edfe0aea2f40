"""Results as tables for a terminal."""

import io

from rich.console import Console
from rich.table import Table

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.measure.evaluation import Evaluation
from drc_deploy.bench.report.conclusions import by_latency, gain_over_bicubic, timed_otherwise
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show.sentences import measured_lines, peer_lines

MIB = 1 << 20
PLAIN_WIDTH = 140
"""Columns where the output is no terminal and its width is unknown."""
STAR = "*"
"""Marks a median that is no latency of one image."""
ENERGY_HEADING = "J/image"


def evaluation_table(evaluation: Evaluation) -> str:
    """Return a row per image and the mean."""
    table = Table(title=f"{evaluation.model} x{evaluation.scale} on {evaluation.data} ({evaluation.lr_folder})")
    table.add_column("image")
    table.add_column("PSNR-Y dB", justify="right")
    table.add_column("SSIM-Y", justify="right")
    for row in evaluation.rows:
        table.add_row(row.image, decibels(row.psnr_y), f"{row.ssim_y:.4f}")
    table.add_section()
    table.add_row(f"mean of {evaluation.images}", decibels(evaluation.psnr_y), f"{evaluation.ssim_y:.4f}")
    return _text(table)


def report_table(report: Report) -> str:
    """Return the summary, a row per engine, what was left out and why, and the warnings."""
    settings = report.settings
    table = Table(title=f"{settings.width}x{settings.height} input, {report.machine.cpu or report.machine.system}")
    table.add_column("engine", overflow="fold")
    for heading in ("median ms", "p90", "p99", "images/s", "host MiB", "device MiB", "PSNR-Y dB", "gain", "SSIM-Y"):
        table.add_column(heading, justify="right")
    if _any_energy(report):
        table.add_column(ENERGY_HEADING, justify="right")
    for engine in by_latency(report.engines):
        table.add_row(*_engine_cells(report, engine))
    for baseline in report.baselines:
        quality = baseline.quality
        cells = ("-",) * 6 + (decibels(quality.psnr_y), "", f"{quality.ssim_y:.4f}")
        table.add_row(f"bicubic x{baseline.scale}", *cells)
    lines = [_text(table)] if report.engines else []
    if any(map(timed_otherwise, report.engines)):
        lines.append(f"{STAR} timed otherwise, so its median does not compare, and it stands last.")
    lines += [*measured_lines(report), report.summary]
    for left_out in report.not_measured:
        lines.append(f"{left_out.kind}: {left_out.name}: {left_out.reason} {left_out.hint}".rstrip())
    lines += [f"beware: {warning}" for warning in report.warnings]
    lines += peer_lines(report.engines)
    lines += _telemetry_lines(report)
    return "\n".join(lines)


def _telemetry_lines(report: Report) -> list[str]:
    """Say what was sampled, how the machine was set, and what is missing of the samples."""
    telemetry = report.telemetry
    if telemetry is None:
        return []
    state = power_state_text(telemetry.state)
    lines = [telemetry.summary, *([f"Set to: {state}."] if state else [])]
    energies = [engine.telemetry.energy for engine in report.engines if engine.telemetry]
    covers = dict.fromkeys(f"{energy.covers} ({energy.of})" for energy in energies if energy)
    lines += [f"{ENERGY_HEADING} is of {', '.join(covers)}; idle power is not subtracted."] if covers else []
    return [*lines, *(f"beware: {note}" for note in telemetry.notes)]


def _any_energy(report: Report) -> bool:
    return any(engine.telemetry and engine.telemetry.energy for engine in report.engines)


def _engine_cells(report: Report, engine: EngineResult) -> list[str]:
    latency = engine.latency
    gain = gain_over_bicubic(report, engine)
    return [
        engine.name,
        f"{latency.median_ms:.1f}{STAR if timed_otherwise(engine) else ''}",
        _milliseconds(latency.p90_ms),
        _milliseconds(latency.p99_ms),
        f"{latency.images_per_second:.2f}",
        _mebibytes(engine.peak_host_memory),
        _mebibytes(engine.peak_device_memory),
        decibels(engine.quality.psnr_y),
        "" if gain is None else f"{gain:+.2f}",
        f"{engine.quality.ssim_y:.4f}",
        *([_joules(engine)] if _any_energy(report) else []),
    ]


def _joules(engine: EngineResult) -> str:
    energy = engine.telemetry.energy if engine.telemetry else None
    return "n/a" if energy is None else f"{energy.per_image_j:.3g}"


def decibels(value: float | None) -> str:
    """Format a PSNR; None means infinite."""
    return "inf" if value is None else f"{value:.2f}"


def _milliseconds(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"


def _mebibytes(reading: Reading) -> str:
    return "n/a" if reading.value is None else f"{reading.value / MIB:.0f}"


def _text(table: Table) -> str:
    """Render for the terminal, or for a file."""
    terminal = Console()
    width = terminal.width if terminal.is_terminal else PLAIN_WIDTH
    # No markup: the names of files may hold brackets.
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal.is_terminal, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")
