"""The page of several reports: the machines beside each other, each engine across them, and the crops once."""

import dataclasses
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.crop_files import merge_crops
from drc_deploy.bench.report.labels import machine_labels
from drc_deploy.bench.report.merged import MERGED_FILE, MergedReports, across, find_notes
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show.console import MIB, decibels
from drc_deploy.bench.show.page_figures import GIB, chip
from drc_deploy.bench.show.sections.crops import crop_section
from drc_deploy.bench.show.sections.document import document

Fact = Callable[[Report], str]


def render_merged_page(merged: MergedReports, folder: Path) -> str:
    """Return the page as text; the crops lie in ``folder``.

    Raises:
        ArtefactError: a crop is missing.
    """
    reports = merged.reports
    labels = machine_labels(reports)
    every = _all_engines(reports)
    notes = "".join(f"<p>{escape(note)}</p>" for note in (*find_notes(reports), *_warnings(labels, reports)))
    body = [
        _header(merged, labels),
        f'<div class="note">{notes}</div>' if notes else "",
        _machines_section(labels, reports),
        *(_across_section(labels, reports, every, scale) for scale in _scales(every)),
        crop_section(dataclasses.replace(reports[0], engines=every, crops=tuple(merge_crops(reports))), folder),
        _not_measured_section(labels, reports),
        f"<footer>Made by drc-deploy {escape(merged.version)}. Every raw sample is in {MERGED_FILE} beside this page."
        "</footer>",
    ]
    return document(f"drc-deploy bench: {merged.created}", body)


def _all_engines(reports: Sequence[Report]) -> tuple[EngineResult, ...]:
    """Return one engine of each name, from the fastest to the slowest: their places number them on the page."""
    names: dict[str, EngineResult] = {}
    for engine in by_latency(engine for report in reports for engine in report.engines):
        names.setdefault(engine.name, engine)
    return tuple(names.values())


def _scales(engines: Sequence[EngineResult]) -> list[int]:
    return sorted({engine.engine.scale for engine in engines})


def _header(merged: MergedReports, labels: Sequence[str]) -> str:
    sentences = "".join(
        f"<p><b>{escape(label)}:</b> {escape(report.summary)}</p>"
        for label, report in zip(labels, merged.reports, strict=True)
    )
    names = ", ".join(labels)
    return (
        f'<header><p class="kicker">drc-deploy bench</p><h1>{len(labels)} reports: {escape(names)}</h1>'
        f"{sentences}</header>"
    )


def _warnings(labels: Sequence[str], reports: Sequence[Report]) -> list[str]:
    return [f"{label}: {text}" for label, report in zip(labels, reports, strict=True) for text in report.warnings]


def _machines_section(labels: Sequence[str], reports: Sequence[Report]) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = []
    for title, fact in FACTS.items():
        values = [fact(report) for report in reports]
        if any(values):
            rows.append(f"<tr><td>{title}</td>{''.join(_wrapped(value) for value in values)}</tr>")
    return (
        f'<section><h2>Machines</h2><div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _wrapped(value: str) -> str:
    return f'<td style="white-space: normal">{escape(value)}</td>'


def _gpus(report: Report) -> str:
    return "; ".join(f"{gpu.name}, driver {gpu.driver}" for gpu in report.machine.gpus)


def _memory(report: Report) -> str:
    size = report.machine.memory_bytes
    return f"{size / GIB:.1f} GiB" if size else ""


def _packages(report: Report) -> str:
    return ", ".join(f"{name} {version}" for name, version in report.machine.packages.items())


FACTS: dict[str, Fact] = {
    "board": lambda report: report.machine.board or "",
    "processor": lambda report: f"{report.machine.cpu or 'unknown'}, {report.machine.logical_cores} cores usable",
    "GPU": _gpus,
    "memory": _memory,
    "set to": lambda report: power_state_text(report.telemetry.state) if report.telemetry else "",
    "system": lambda report: f"{report.machine.system}, Python {report.machine.python}",
    "packages": _packages,
    "input": lambda report: f"{report.settings.width}x{report.settings.height} of {report.settings.input_image}",
    "runs": lambda report: f"at least {report.settings.min_runs} and {report.settings.min_seconds:g} s",
    "threads": lambda report: str(report.settings.threads or "each library's own choice"),
    "images": lambda report: f"{report.settings.data}; {report.settings.lr_made_by}",
    "measured": lambda report: f"{report.created}, drc-deploy {report.version}",
    "command": lambda report: report.settings.command,
}
"""Row of the table of machines -> what stands there."""


def _across_section(labels: Sequence[str], reports: Sequence[Report], every: Sequence[EngineResult], scale: int) -> str:
    ranks = {engine.name: index for index, engine in enumerate(every)}
    found = {name: engines for (name, of), engines in across(reports).items() if of == scale}
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = "".join(_across_row(ranks[name], name, found[name]) for name in sorted(found, key=lambda name: ranks[name]))
    return (
        f"<section><h2>Each engine on every machine, &times;{scale}</h2>"
        "<p>Median of one image with its 95 % interval; below it images a second, peak memory, energy and PSNR-Y. "
        "The runs on two machines did not take turns.</p>"
        f'<div class="scroll"><table><thead><tr><th>engine</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>"
    )


def _across_row(rank: int, name: str, engines: Sequence[EngineResult | None]) -> str:
    network = next(engine.engine for engine in engines if engine)
    about = f"{network.model}, {network.precision}, {network.params / 1e6:.2f} M parameters"
    cells = "".join(f"<td>{_cell(engine) if engine else '-'}</td>" for engine in engines)
    return f"<tr><td>{chip(rank)} {escape(name)}<small>{escape(about)}</small></td>{cells}</tr>"


def _cell(engine: EngineResult) -> str:
    latency = engine.latency
    interval = latency.median_interval_ms
    energy = engine.telemetry.energy if engine.telemetry else None
    lines = [
        f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else "",
        f"{latency.images_per_second:.2f} images/s",
        _mebibytes("host", engine.peak_host_memory),
        _mebibytes("device", engine.peak_device_memory),
        f"{energy.per_image_j:.3g} J an image ({escape(energy.covers)})" if energy else "",
        f"{decibels(engine.quality.psnr_y)} dB",
        escape(engine.device),
    ]
    return f"{latency.median_ms:.1f} ms" + "".join(f"<small>{line}</small>" for line in lines if line)


def _mebibytes(where: str, reading: Reading) -> str:
    return "" if reading.value is None else f"{reading.value / MIB:.0f} MiB on the {where}"


def _not_measured_section(labels: Sequence[str], reports: Sequence[Report]) -> str:
    rows = "".join(
        f"<dt>{escape(item.name)}</dt><dd>{escape(label)}: <b>{item.kind}</b>: {escape(item.reason)}</dd>"
        for label, report in zip(labels, reports, strict=True)
        for item in report.not_measured
    )
    return f"<section><h2>Not measured</h2><dl>{rows}</dl></section>" if rows else ""
