"""Reports of several machines in one record, and notes on whether their figures compare."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from drc_deploy import records
from drc_deploy.bench.machine.memory import is_gpu
from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.report.checks import check_report
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.report.report_files import read_report_json, report_from_dict
from drc_deploy.errors import ArtefactError

MERGED_FILE = "reports.json"
Scored = tuple[str, float]
"""Image and PSNR."""
PSNR_AGREES_DB = 0.05
"""Machines round differently; one network on the same images differs by less."""


@dataclass(frozen=True, slots=True)
class MergedReports:
    """``reports.json``."""

    created: str
    """UTC, ISO 8601."""
    version: str
    """Of drc-deploy, which merged them."""
    reports: tuple[Report, ...]


def read_any(path: Path) -> Report | MergedReports:
    """Read a ``report.json`` or a ``reports.json``.

    Raises:
        ArtefactError: it is missing, damaged, impossible, or of another version or program.
    """
    data = read_report_json(path)
    if "reports" not in data:
        return report_from_dict(data, str(path))
    merged = records.from_dict(MergedReports, data, str(path))
    if not merged.reports:
        raise ArtefactError(f"{path} holds no report.", "Merge the reports again.")
    for report in merged.reports:
        check_report(report, str(path))
    return merged


def reports_in(content: Report | MergedReports) -> tuple[Report, ...]:
    """Return all reports; a ``report.json`` has one."""
    return content.reports if isinstance(content, MergedReports) else (content,)


def machine_label(report: Report) -> str:
    """Name the board, else the GPU where an engine ran on one, else the processor."""
    machine = report.machine
    on_gpu = any(is_gpu(engine.device) for engine in report.engines)
    gpus = ", ".join(dict.fromkeys(gpu.name for gpu in machine.gpus)) if on_gpu else ""
    return machine.board or gpus or machine.cpu or machine.system


def machine_labels(reports: Sequence[Report]) -> list[str]:
    """Name the machines of several reports; one that comes again has the number of its report."""
    labels = [machine_label(report) for report in reports]
    return [label if labels.count(label) == 1 else f"{label} ({index + 1})" for index, label in enumerate(labels)]


def shared_baselines(before: Report, after: Report) -> dict[int, tuple[list[Scored], list[Scored]]]:
    """Return for each scale of both reports the images with the PSNR of bicubic upscaling, to four digits."""
    first, second = ({item.scale: _scored(item.quality) for item in report.baselines} for report in (before, after))
    return {scale: (first[scale], second[scale]) for scale in sorted(first.keys() & second.keys())}


def _scored(quality: Quality) -> list[Scored]:
    return [(row.image, round(row.psnr_y or 0, 4)) for row in quality.rows]


def across(reports: Sequence[Report]) -> dict[tuple[str, int], list[EngineResult | None]]:
    """Return for each name and scale the engine of every report, None where a report does not have it."""
    found = [{(engine.name, engine.engine.scale): engine for engine in report.engines} for report in reports]
    keys = dict.fromkeys(key for engines in found for key in engines)
    return {key: [engines.get(key) for engines in found] for key in keys}


def find_notes(reports: Sequence[Report]) -> tuple[str, ...]:
    """Return the reasons why figures of different machines do not compare."""
    labels = machine_labels(reports)
    sizes = {label: f"{report.settings.width}x{report.settings.height}" for label, report in _named(reports)}
    versions = {label: report.version for label, report in _named(reports)}
    others = (pair for report in reports[1:] for pair in shared_baselines(reports[0], report).values())
    images = any(first != second for first, second in others)
    notes = [
        "The images for quality differ, so PSNR and SSIM do not compare." if images else "",
        f"The inputs differ, so the milliseconds do not compare: {_listed(sizes)}." if _differ(sizes) else "",
        f"The versions of drc-deploy differ: {_listed(versions)}." if _differ(versions) else "",
    ]
    for (name, _), engines in across(reports).items():
        present = [(label, engine) for label, engine in zip(labels, engines, strict=True) if engine]
        notes += _engine_notes(name, present)
    return tuple(note for note in notes if note)


def _engine_notes(name: str, present: Sequence[tuple[str, EngineResult]]) -> Iterator[str]:
    if len({engine.engine.checkpoint_sha256 for _, engine in present}) > 1:
        yield f"{name} was not made from the same checkpoint on every machine."
        return
    for _, group in groupby(sorted(present, key=_images), key=_images):
        levels = {label: engine.quality.psnr_y for label, engine in group}
        known = [level for level in levels.values() if level is not None]
        if known and max(known) - min(known) > PSNR_AGREES_DB:
            levels_text = {label: f"{level:.2f} dB" for label, level in levels.items() if level is not None}
            yield f"{name} produces different images on some machines: {_listed(levels_text)}."


def _images(present: tuple[str, EngineResult]) -> tuple[str, ...]:
    return tuple(row.image for row in present[1].quality.rows)


def _named(reports: Sequence[Report]) -> Iterator[tuple[str, Report]]:
    return zip(machine_labels(reports), reports, strict=True)


def _differ(values: dict[str, str]) -> bool:
    return len(set(values.values())) > 1


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{value} on {label}" for label, value in values.items())


def run_key(report: Report) -> Hashable:
    """Return what two reports of the same run share, and no others."""
    return report.created, machine_label(report), tuple(engine.latency.rounds_ms for engine in report.engines)


def refuse_twins(reports: Sequence[tuple[str, Report]]) -> None:
    """Refuse the same report twice; each comes with the name of its file.

    Raises:
        ArtefactError: two are the same.
    """
    seen: dict[Hashable, str] = {}
    for source, report in reports:
        key = run_key(report)
        if key in seen:
            raise ArtefactError(f"{seen[key]} and {source} hold the same report.", "Give each report once.")
        seen[key] = source
