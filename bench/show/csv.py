"""``report.csv``: one row for each engine of one or more reports, for spreadsheets and scripts.

The names of the columns do not change; new ones are added at the end. Units are in the names, and a cell is empty where
the figure is unavailable. Numbers are not rounded.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from drc_deploy.bench.report.conclusions import by_latency, gain_over_bicubic
from drc_deploy.bench.report.labels import machine_labels
from drc_deploy.bench.report.records import EngineResult, NotMeasured, Report
from drc_deploy.bench.show.markdown import one_line

Cell: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Cell]

COLUMNS = (
    "machine",
    "created",
    "drc_deploy",
    "engine",
    "status",
    "reason",
    "model",
    "scale",
    "precision",
    "tile_height_px",
    "tile_width_px",
    "parameters",
    "device",
    "input_height_px",
    "input_width_px",
    "threads",
    "runs",
    "latency_median_ms",
    "latency_median_low_ms",
    "latency_median_high_ms",
    "latency_mean_ms",
    "latency_std_ms",
    "latency_min_ms",
    "latency_max_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "images_per_second",
    "warm_up_settled",
    "load_ms",
    "file_bytes",
    "peak_host_memory_bytes",
    "peak_device_memory_bytes",
    "psnr_y_db",
    "psnr_y_gain_over_bicubic_db",
    "ssim_y",
    "images",
    "energy_per_image_j",
    "mean_power_w",
    "energy_of",
    "file_sha256",
    "checkpoint_sha256",
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs text that begins so."""


def csv_text(reports: Sequence[Report]) -> str:
    """Return the table with its head: the engines of each report, fastest first, then those left out."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for label, report in zip(machine_labels(reports), reports, strict=True):
        for row in _rows(report):
            writer.writerow({name: _cell(value) for name, value in ({"machine": label} | row).items()})
    return stream.getvalue()


def _rows(report: Report) -> Iterable[Row]:
    about: Row = {"created": report.created, "drc_deploy": report.version}
    for engine in by_latency(report.engines):
        yield about | _engine_row(report, engine) | _latency_row(engine) | _quality_row(report, engine)
    for left_out in report.not_measured:
        yield about | _left_out_row(left_out)


def _engine_row(report: Report, engine: EngineResult) -> Row:
    network, settings = engine.engine, report.settings
    energy = engine.telemetry.energy if engine.telemetry else None
    return {
        "engine": engine.name,
        "status": "measured",
        "model": network.model,
        "scale": network.scale,
        "precision": network.precision,
        "tile_height_px": network.tile[0] if network.tile else None,
        "tile_width_px": network.tile[1] if network.tile else None,
        "parameters": network.params,
        "device": engine.device,
        "input_height_px": settings.height,
        "input_width_px": settings.width,
        "threads": settings.threads,
        "load_ms": engine.load_ms,
        "file_bytes": engine.size_bytes,
        "peak_host_memory_bytes": engine.peak_host_memory.value,
        "peak_device_memory_bytes": engine.peak_device_memory.value,
        "energy_per_image_j": energy.per_image_j if energy else None,
        "mean_power_w": energy.mean_power_w if energy else None,
        "energy_of": energy.covers if energy else None,
        "file_sha256": engine.sha256,
        "checkpoint_sha256": network.checkpoint_sha256,
    }


def _latency_row(engine: EngineResult) -> Row:
    latency = engine.latency
    low, high = latency.median_interval_ms or (None, None)
    return {
        "runs": latency.runs,
        "latency_median_ms": latency.median_ms,
        "latency_median_low_ms": low,
        "latency_median_high_ms": high,
        "latency_mean_ms": latency.mean_ms,
        "latency_std_ms": latency.std_ms,
        "latency_min_ms": latency.min_ms,
        "latency_max_ms": latency.max_ms,
        "latency_p90_ms": latency.p90_ms,
        "latency_p99_ms": latency.p99_ms,
        "images_per_second": latency.images_per_second,
        "warm_up_settled": engine.warm_up.settled,
    }


def _quality_row(report: Report, engine: EngineResult) -> Row:
    quality = engine.quality
    return {
        "psnr_y_db": "inf" if quality.psnr_y is None else quality.psnr_y,
        "psnr_y_gain_over_bicubic_db": gain_over_bicubic(report, engine),
        "ssim_y": quality.ssim_y,
        "images": quality.images,
    }


def _left_out_row(left_out: NotMeasured) -> Row:
    return {"engine": left_out.name, "status": left_out.kind, "reason": f"{left_out.reason} {left_out.hint}".rstrip()}


def _cell(value: Cell) -> Cell:
    """Return what is written: nothing for None, and no text that a spreadsheet would run as a formula."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = f"'{value}" if value.startswith(FORMULA_STARTS) else value
    return one_line(text)
