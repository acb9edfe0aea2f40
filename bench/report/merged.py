"""Reports of several machines together: their labels, and notes on whether their figures compare."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from drc_deploy.bench.machine.memory import is_gpu
from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.errors import ArtefactError

Scored = tuple[str, float]
"""Image and PSNR."""
PSNR_AGREES_DB = 0.05
"""Machines round differently; one network on the same images differs by less."""


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
    sizes = [f"{report.settings.width}x{report.settings.height}" for report in reports]
    versions = [report.version for report in reports]
    others = (pair for report in reports[1:] for pair in shared_baselines(reports[0], report).values())
    notes = []
    if any(first != second for first, second in others):
        notes.append("The images for quality differ, so PSNR and SSIM do not compare.")
    if len(set(sizes)) > 1:
        notes.append(f"The inputs differ, so the milliseconds do not compare: {_listed(sizes, labels)}.")
    if len(set(versions)) > 1:
        notes.append(f"The versions of drc-deploy differ: {_listed(versions, labels)}.")
    for (name, _), engines in across(reports).items():
        notes += _engine_notes(name, {label: one for label, one in zip(labels, engines, strict=True) if one})
    return tuple(notes)


def _engine_notes(name: str, engines: dict[str, EngineResult]) -> Iterator[str]:
    """Compare one engine on several machines, by label: its checkpoint, and its PSNR on the same images."""
    if len({engine.engine.checkpoint_sha256 for engine in engines.values()}) > 1:
        yield f"{name} was not made from the same checkpoint on every machine."
        return
    by_images: dict[tuple[str, ...], dict[str, float]] = {}
    for label, engine in engines.items():
        if engine.quality.psnr_y is not None:
            by_images.setdefault(tuple(row.image for row in engine.quality.rows), {})[label] = engine.quality.psnr_y
    for images in sorted(by_images):
        levels = by_images[images]
        if max(levels.values()) - min(levels.values()) > PSNR_AGREES_DB:
            words = _listed([f"{level:.2f} dB" for level in levels.values()], levels)
            yield f"{name} produces different images on some machines: {words}."


def _listed(values: Iterable[str], labels: Iterable[str]) -> str:
    return ", ".join(f"{value} on {label}" for value, label in zip(values, labels, strict=True))


def run_key(report: Report) -> Hashable:
    """Return what two reports of the same run share, and no others."""
    return report.created, machine_label(report), tuple(engine.latency.rounds_ms for engine in report.engines)


def refuse_twins(reports: Sequence[tuple[Path, Report]]) -> None:
    """Refuse the same report twice; each comes with its file.

    Raises:
        ArtefactError: two are the same.
    """
    seen: dict[Hashable, Path] = {}
    for path, report in reports:
        key = run_key(report)
        if key in seen:
            raise ArtefactError(f"{seen[key]} and {path} hold the same report.", "Give each report once.")
        seen[key] = path
