"""``report.md``: the result of one or more reports in Markdown, for a comment or a page of a project."""

import re
from collections.abc import Callable, Sequence
from unicodedata import category

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.report.conclusions import by_latency, gain_over_bicubic, timed_otherwise
from drc_deploy.bench.report.labels import machine_labels
from drc_deploy.bench.report.records import Baseline, EngineResult, Report
from drc_deploy.bench.show.console import MIB, STAR, decibels

_SPECIAL = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


_PLAIN_CODE = re.compile(r"[^`|\\]*[^`|\\ ][^`|\\]*")


def one_line(text: str) -> str:
    """Return text without line breaks and what cannot be shown: the name of a file may hold any character."""
    return "".join("\ufffd" if category(character) in {"Cc", "Cs", "Zl", "Zp"} else character for character in text)


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


Column = Callable[[Report, EngineResult], str]


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
    rows = [[column(report, engine) for column in COLUMNS.values()] for engine in by_latency(report.engines)]
    rows += [_baseline(baseline) for baseline in report.baselines]
    kept = [index for index in range(len(COLUMNS)) if any(row[index] for row in rows)]
    headings = list(COLUMNS)
    return table([headings[index] for index in kept], [[row[index] for index in kept] for row in rows])


def _median(_report: Report, engine: EngineResult) -> str:
    interval = engine.latency.median_interval_ms
    between = f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else ""
    star = prose(STAR) if timed_otherwise(engine) else ""
    return f"{engine.latency.median_ms:.1f}{star}{between}"


def _p90(_report: Report, engine: EngineResult) -> str:
    return "" if engine.latency.p90_ms is None else f"{engine.latency.p90_ms:.1f}"


def _gain(report: Report, engine: EngineResult) -> str:
    gain = gain_over_bicubic(report, engine)
    return "" if gain is None else f"{gain:+.2f}"


def _energy(_report: Report, engine: EngineResult) -> str:
    energy = engine.telemetry.energy if engine.telemetry else None
    return f"{energy.per_image_j:.3g}" if energy else ""


def _mebibytes(reading: Reading) -> str:
    return "" if reading.value is None else f"{reading.value / MIB:.0f}"


COLUMNS: dict[str, Column] = {
    "engine": lambda _, engine: code(engine.name),
    "median ms (95 %)": _median,
    "p90 ms": _p90,
    "images/s": lambda _, engine: f"{engine.latency.images_per_second:.2f}",
    "host MiB": lambda _, engine: _mebibytes(engine.peak_host_memory),
    "device MiB": lambda _, engine: _mebibytes(engine.peak_device_memory),
    "J an image": _energy,
    "PSNR-Y dB": lambda _, engine: decibels(engine.quality.psnr_y),
    "over bicubic": _gain,
    "SSIM-Y": lambda _, engine: f"{engine.quality.ssim_y:.4f}",
}
"""Heading -> cell. A column without any figure is left out."""


def _baseline(baseline: Baseline) -> list[str]:
    quality = baseline.quality
    figures = {"PSNR-Y dB": decibels(quality.psnr_y), "SSIM-Y": f"{quality.ssim_y:.4f}"}
    return [f"bicubic x{baseline.scale}", *(figures.get(heading, "") for heading in list(COLUMNS)[1:])]


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
    other = "is timed otherwise, so its median does not compare: a run is"
    points = [f"{prose(STAR)} {code(name)} {other} {prose(otherwise)}" for name, otherwise in timed.items()]
    points += [f"{item.kind}: {code(item.name)}: {prose(item.reason)}" for item in report.not_measured]
    points += [f"beware: {prose(warning)}" for warning in report.warnings]
    return "\n".join(f"- {point}" for point in points)
