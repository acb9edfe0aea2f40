"""The comparison of two reports in Markdown, for a terminal as well."""

from collections.abc import Callable, Sequence

from drc_deploy.bench.comparison.compare import Change, EngineChange, ReportComparison
from drc_deploy.bench.comparison.thresholds import Crossing
from drc_deploy.bench.show.figures import MIB, MISSING, decibels, interval_text
from drc_deploy.bench.show.markdown import code, prose, table

METHOD = (
    "The 95 % interval comes from the rounds of both runs, which did not take turns. It does not cover changes between "
    "whole runs, such as the temperature. Measure twice before you rely on a small change. Memory is one reading of "
    "each run."
)
FILES = {"made again": "another file from the same checkpoint", "other checkpoint": "made from another checkpoint"}
HEADINGS = ("engine", "ms", "times as long", "result", "host MiB", "device MiB", "PSNR-Y dB", "J per image")


def comparison_text(comparison: ReportComparison, crossings: Sequence[Crossing]) -> str:
    """Return the summary, the table, other differences, and the limits that are crossed."""
    rows = [_cells(engine) for engine in comparison.engines]
    kept = [column for column in range(len(HEADINGS)) if any(row[column] for row in rows)]
    parts = [
        f"**{prose(comparison.summary)}**",
        f"{code(comparison.before)} ({comparison.before_created}) -> {code(comparison.after)} "
        f"({comparison.after_created})",
        table([HEADINGS[column] for column in kept], [[row[column] for column in kept] for row in rows]),
        _points(comparison, crossings),
    ]
    return "\n\n".join(parts)


def _cells(engine: EngineChange) -> list[str]:
    latency = engine.latency
    interval = interval_text(latency.interval, 3) or "too few rounds"
    same_name = engine.name == engine.name_before
    return [
        code(engine.name) if same_name else f"{code(engine.name_before)} -> {code(engine.name)}",
        _change(engine.median_ms, "{:.2f}".format),
        f"{latency.ratio:.3f} ({interval})",
        engine.result,
        _change(engine.peak_host_memory_bytes, lambda size: f"{size / MIB:.0f}"),
        _change(engine.peak_device_memory_bytes, lambda size: f"{size / MIB:.0f}"),
        _psnr(engine.psnr_y_db),
        _change(engine.energy_per_image_j, "{:.3g}".format),
    ]


def _change(change: Change, text: Callable[[float], str]) -> str:
    """Return a figure before and after, or nothing where no report has it."""
    if change.before is None and change.after is None:
        return ""
    return " -> ".join(MISSING if value is None else text(value) for value in (change.before, change.after))


def _psnr(psnr_db: Change) -> str:
    if psnr_db.before is None or psnr_db.after is None:
        return f"{decibels(psnr_db.before)} -> {decibels(psnr_db.after)}"
    return f"{decibels(psnr_db.before)} {psnr_db.after - psnr_db.before:+.3f}"


def _points(comparison: ReportComparison, crossings: Sequence[Crossing]) -> str:
    points = [f"LIMIT CROSSED: {crossing.reason}" for crossing in crossings]
    points += [f"{item.what}: {item.before}, then {item.after}" for item in comparison.differences]
    points += [f"measured before only: {name}" for name in comparison.only_before]
    points += [f"measured after only: {name}" for name in comparison.only_after]
    points += [f"{engine.name}: {FILES[engine.file]}" for engine in comparison.engines if engine.file in FILES]
    points += [*comparison.notes, METHOD]
    return "\n".join(f"- {prose(point)}" for point in points)
