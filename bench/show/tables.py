"""The sections with tables: all figures, throughput and accuracy, and the time of each layer."""

from collections.abc import Iterable, Sequence

from drc_deploy.bench.measure.layer_times import LayerProfile, LayerTime
from drc_deploy.bench.measure.measurement import Measurement
from drc_deploy.bench.report.conclusions import by_latency, timed_otherwise
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show.figures import (
    MISSING,
    STAR,
    Column,
    FigureRow,
    figure_rows,
    interval_text,
    shown_columns,
)
from drc_deploy.bench.show.sentences import comparison_text, difference_text, host_share_text, peer_lines
from drc_deploy.bench.show.view import Cell, Section, Table

MEASURED = (
    *("engine", "network only, ms", "host share", "stream, images/s"),
    *("Mpixel/s", "stability", "against torch, dB", "seams, dB"),
)
TOP = 10
"""Layers in the table; the others are one row."""
OPERATIONS = 5


def figures_section(report: Report) -> Section | None:
    """Return every figure, and why some are missing; None where nothing was measured."""
    if not report.engines:
        return None
    # Energy has a table of its own, in the section of the sensors.
    columns = [column for column in shown_columns(report) if column.key != "energy_per_image_j"]
    rows = []
    for index, row in enumerate(figure_rows(report)):
        rows.append([_name(index, row), *(_figure(row, column) for column in columns)])
    bare = [engine.latency.unavailable for engine in report.engines if engine.latency.median_interval_ms is None]
    view = {
        "table": Table("All figures", ["engine", *(column.title for column in columns)], rows),
        "has_interval": len(bare) < len(report.engines),
        "no_interval": list(dict.fromkeys(unavailable.get("median_interval_ms", "unknown") for unavailable in bare)),
        "star": STAR if any(map(timed_otherwise, report.engines)) else "",
        "reasons": _missing(by_latency(report.engines)),
    }
    return Section("figures", "All figures", "figures", view)


def _name(index: int, row: FigureRow) -> Cell:
    engine = row.engine
    if engine is None:
        return Cell(row.name, ("quality only",))
    network, otherwise = engine.engine, timed_otherwise(engine)
    tile = f"tile {network.tile[0]}x{network.tile[1]}" if network.tile else "any size"
    about = f"{network.model} x{network.scale}, {network.precision}, {tile}, {network.params / 1e6:.2f} M parameters"
    return Cell(row.name, (about, engine.device, f"{STAR} a run is {otherwise}" if otherwise else ""), index)


def _figure(row: FigureRow, column: Column) -> Cell:
    text, engine = row.texts[column.key], row.engine
    if engine is None or text == MISSING:
        return Cell(text)
    if column.key == "psnr_y_gain_over_bicubic_db":
        return Cell(text, kind="bad" if text.startswith("-") else "good")
    below = {
        "latency_median_ms": interval_text(engine.latency.median_interval_ms),
        "images_per_second": f"{engine.latency.runs} runs",
    }
    return Cell(text, (below.get(column.key, ""),))


def _missing(engines: Iterable[EngineResult]) -> list[str]:
    """Return one reason for each missing figure, from the fastest engine without it."""
    reasons: dict[str, str] = {}
    for engine in engines:
        unavailable = engine.latency.unavailable
        for field, title in (("p90_ms", "p90"), ("p99_ms", "p99")):
            if field in unavailable:
                reasons.setdefault(title, f"{title}: {unavailable[field]} (more with --min-runs or --min-seconds).")
        for title, reading in (("host", engine.peak_host_memory), ("device", engine.peak_device_memory)):
            if reading.value is None:
                reasons.setdefault(title, f"{title} memory {reading.note}.")
    return list(reasons.values())


def measured_section(report: Report) -> Section | None:
    """Return the figures other than latency, and the comparisons; None where an engine has no such figures."""
    ranked = enumerate(by_latency(report.engines))
    rows = [_measured(index, engine.name, found) for index, engine in ranked if (found := engine.measurement)]
    if not rows:
        return None
    sentences = [list(map(comparison_text, report.comparisons)), peer_lines(report.engines)]
    view = {"table": Table("Throughput and accuracy", MEASURED, rows, "wrap"), "sentences": sentences}
    return Section("throughput", "Throughput and accuracy", "measured", view)


def _measured(index: int, name: str, found: Measurement) -> list[Cell]:
    network, stream, split = found.engine_only, found.throughput, found.engine_only.split
    parts, (share, interval) = "", host_share_text(network)
    stability = found.stability
    unseen = "; ".join(stability.not_seen) if stability.verdict == "unknown" else ""
    if split is not None:
        parts = f"up {split.upload_ms:.2f}, compute {split.compute_ms:.2f}, down {split.download_ms:.2f}"
    return [
        Cell(name, engine=index),
        Cell(f"{network.latency.median_ms:.2f}", (parts,)),
        Cell(share, (interval,)),
        Cell(f"{stream.images_per_second:.2f}"),
        Cell(f"{stream.output_megapixels_per_second:.1f}"),
        Cell(stability.verdict, (unseen,)),
        Cell(difference_text(found.torch.difference, found.torch.note)),
        Cell(difference_text(found.seam.difference, found.seam.note)),
    ]


def layers_section(engines: Sequence[EngineResult]) -> Section | None:
    """Return one foldable table for each engine, or why it has none; None without engines."""
    profiles = [_profile(index, engine, engine.layers) for index, engine in enumerate(engines)]
    return Section("layers", "Time of each layer", "layers", {"profiles": profiles}) if profiles else None


def _profile(index: int, engine: EngineResult, profile: LayerProfile) -> dict[str, object]:
    total = sum(layer.fastest_ms for layer in profile.layers) or 1.0  # all too short for the clock
    slowest = sorted(profile.layers, key=lambda layer: -layer.fastest_ms)
    rows, rest = slowest[:TOP], slowest[TOP:]
    if rest:
        rows.append(LayerTime(f"{len(rest)} others", "", sum(layer.fastest_ms for layer in rest)))
    return {
        "name": Cell(engine.name, engine=index),
        "kinds": _by_operation(profile.layers, total),
        "layers": [(layer, layer.fastest_ms / total) for layer in rows],
        "note": profile.note,
    }


def _by_operation(layers: Sequence[LayerTime], total_ms: float) -> str:
    """Return the share of the time that each kind of operation takes."""
    times = dict.fromkeys((layer.operation for layer in layers), 0.0)
    for layer in layers:
        times[layer.operation] += layer.fastest_ms
    longest = sorted(times.items(), key=lambda item: -item[1])[:OPERATIONS]
    return ", ".join(f"{operation} {ms / total_ms:.0%}" for operation, ms in longest)
