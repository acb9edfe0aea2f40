"""The page of several reports: the machines next to each other, each engine across them, and the crops once."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.crop_files import merge_crops
from drc_deploy.bench.report.merged import across, find_notes, machine_labels
from drc_deploy.bench.report.records import EngineResult, MergedReports, Report
from drc_deploy.bench.report.report_files import MERGED_FILE
from drc_deploy.bench.show.figures import MISSING, engine_texts, interval_text, shown_columns
from drc_deploy.bench.show.page import crops_section, machine_facts, not_measured_section
from drc_deploy.bench.show.view import Cell, Section, Table, render

BELOW_MEDIAN = (
    *("images_per_second", "peak_host_memory_bytes", "peak_device_memory_bytes"),
    *("energy_per_image_j", "psnr_y_db"),
)
"""Figures of an engine on a machine, below its median."""


def render_merged_page(merged: MergedReports, folder: Path) -> str:
    """Return the page as text; the crops lie in ``folder``.

    Raises:
        ArtefactError: a crop is missing.
    """
    reports = merged.reports
    labels = machine_labels(reports)
    named = list(zip(labels, reports, strict=True))
    every = _all_engines(reports)
    sections = [
        _machines_section(labels, reports),
        *(_across_section(labels, reports, every, scale) for scale in sorted({one.engine.scale for one in every})),
        crops_section(dataclasses.replace(reports[0], engines=every, crops=merge_crops(reports)), folder),
        not_measured_section(named),
    ]
    return render(
        "merged.html",
        merged=merged,
        labels=labels,
        named=named,
        file=MERGED_FILE,
        notes=[*find_notes(reports), *(f"{label}: {text}" for label, report in named for text in report.warnings)],
        sections=[section for section in sections if section],
    )


def _all_engines(reports: Sequence[Report]) -> tuple[EngineResult, ...]:
    """Return one engine of each name, from the fastest to the slowest: their places number them on the page."""
    names: dict[str, EngineResult] = {}
    for engine in by_latency(engine for report in reports for engine in report.engines):
        names.setdefault(engine.name, engine)
    return tuple(names.values())


def _machines_section(labels: Sequence[str], reports: Sequence[Report]) -> Section:
    facts = [machine_facts(report) | _run_facts(report) for report in reports]
    rows = [
        [Cell(title), *(Cell(one[title]) for one in facts)] for title in facts[0] if any(one[title] for one in facts)
    ]
    return Section(
        "machines", "Machines", "table", {"words": "", "table": Table("Machines", ["", *labels], rows, "wrap")}
    )


def _run_facts(report: Report) -> dict[str, str]:
    """Return how a report was measured."""
    settings = report.settings
    return {
        "set to": power_state_text(report.telemetry.state) if report.telemetry else "",
        "input": f"{settings.width}x{settings.height} of {settings.input_image}",
        "runs": f"at least {settings.min_runs} and {settings.min_seconds:g} s",
        "threads": str(settings.threads or "each library's own choice"),
        "images": f"{settings.data}; {settings.lr_made_by}",
        "measured": f"{report.created}, drc-deploy {report.version}",
        "command": settings.command,
    }


def _across_section(
    labels: Sequence[str], reports: Sequence[Report], every: Sequence[EngineResult], scale: int
) -> Section:
    found = {name: engines for (name, of), engines in across(reports).items() if of == scale}
    rows = []
    for index, engine in enumerate(every):
        if engine.name in found:
            network = next(one.engine for one in found[engine.name] if one)
            about = f"{network.model}, {network.precision}, {network.params / 1e6:.2f} M parameters"
            cells = (_cell(*pair) for pair in zip(reports, found[engine.name], strict=True))
            rows.append([Cell(engine.name, (about,), index), *cells])
    words = (
        "Median of one image with its 95 % interval; below it images per second, peak memory, energy and PSNR-Y. "
        "The machines did not take turns."
    )
    title = f"Each engine on every machine, x{scale}"
    table = Table(title, ["engine", *labels], rows)
    return Section(f"engines-x{scale}", title, "table", {"words": words, "table": table})


def _cell(report: Report, engine: EngineResult | None) -> Cell:
    if engine is None:
        return Cell("-")
    texts = engine_texts(report, engine)
    lines = [
        f"{column.heading} {texts[column.key]} {column.unit}".strip()
        for column in shown_columns(report)
        if column.key in BELOW_MEDIAN and texts[column.key] != MISSING
    ]
    covers = f"energy of {engine.energy.covers}" if engine.energy else ""
    interval = interval_text(engine.latency.median_interval_ms)
    return Cell(f"{texts['latency_median_ms']} ms", (interval, *lines, covers, engine.device))
