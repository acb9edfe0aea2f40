"""The table of figures: every column of the CSV, and how the tables for people show it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from drc_deploy.bench.machine.telemetry.energy import Energy
from drc_deploy.bench.measure.intervals import Interval
from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.report.conclusions import by_latency, gain_over_bicubic, timed_otherwise
from drc_deploy.bench.report.records import EngineResult, Report

Value: TypeAlias = str | int | float | bool | None
"""None where the figure is unavailable; an infinite PSNR is infinite."""

MIB = 1 << 20
MISSING = "n/a"
STAR = "*"
"""Marks a median that is no latency of one image."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of an engine."""

    key: str
    """Name of the column in the CSV, which shows the value as it is."""
    value: Callable[[Report, EngineResult], Value]
    heading: str = ""
    unit: str = ""
    digits: str = ""
    """Format specification of the number in tables for people; they leave out a column without one."""
    per: int = 1
    """What the value is divided by to have ``unit``."""

    @property
    def title(self) -> str:
        """Heading and unit."""
        return f"{self.heading} {self.unit}".strip()

    def text(self, value: Value) -> str:
        """Return a number as the tables for people show it, nothing for None."""
        return format(value / self.per, self.digits) if isinstance(value, int | float) else ""


def _psnr(quality: Quality) -> float:
    return math.inf if quality.psnr_y is None else quality.psnr_y


def _energy(engine: EngineResult, value: Callable[[Energy], Value]) -> Value:
    return value(engine.energy) if engine.energy else None


COLUMNS: tuple[Column, ...] = (
    Column("model", lambda _, engine: engine.engine.model),
    Column("scale", lambda _, engine: engine.engine.scale),
    Column("precision", lambda _, engine: engine.engine.precision),
    Column("tile_height_px", lambda _, engine: (engine.engine.tile or (None, None))[0]),
    Column("tile_width_px", lambda _, engine: (engine.engine.tile or (None, None))[1]),
    Column("parameters", lambda _, engine: engine.engine.params),
    Column("device", lambda _, engine: engine.device),
    Column("input_height_px", lambda report, _: report.settings.height),
    Column("input_width_px", lambda report, _: report.settings.width),
    Column("threads", lambda report, _: report.settings.threads),
    Column("runs", lambda _, engine: engine.latency.runs),
    Column("latency_median_ms", lambda _, engine: engine.latency.median_ms, "median", "ms", ".1f"),
    Column("latency_median_low_ms", lambda _, engine: (engine.latency.median_interval_ms or (None, None))[0]),
    Column("latency_median_high_ms", lambda _, engine: (engine.latency.median_interval_ms or (None, None))[1]),
    Column("latency_mean_ms", lambda _, engine: engine.latency.mean_ms),
    Column("latency_std_ms", lambda _, engine: engine.latency.std_ms),
    Column("latency_min_ms", lambda _, engine: engine.latency.min_ms),
    Column("latency_max_ms", lambda _, engine: engine.latency.max_ms),
    Column("latency_p90_ms", lambda _, engine: engine.latency.p90_ms, "p90", "ms", ".1f"),
    Column("latency_p99_ms", lambda _, engine: engine.latency.p99_ms, "p99", "ms", ".1f"),
    Column("images_per_second", lambda _, engine: engine.latency.images_per_second, "", "images/s", ".2f"),
    Column("warm_up_settled", lambda _, engine: engine.warm_up.settled),
    Column("load_ms", lambda _, engine: engine.load_ms),
    Column("file_bytes", lambda _, engine: engine.size_bytes),
    Column("peak_host_memory_bytes", lambda _, engine: engine.peak_host_memory.value, "host", "MiB", ".0f", MIB),
    Column("peak_device_memory_bytes", lambda _, engine: engine.peak_device_memory.value, "device", "MiB", ".0f", MIB),
    Column("psnr_y_db", lambda _, engine: _psnr(engine.quality), "PSNR-Y", "dB", ".2f"),
    Column("psnr_y_gain_over_bicubic_db", gain_over_bicubic, "gain", "dB", "+.2f"),
    Column("ssim_y", lambda _, engine: engine.quality.ssim_y, "SSIM-Y", "", ".4f"),
    Column("images", lambda _, engine: engine.quality.images),
    Column("energy_per_image_j", lambda _, engine: _energy(engine, lambda e: e.per_image_j), "", "J per image", ".3g"),
    Column("mean_power_w", lambda _, engine: _energy(engine, lambda e: e.mean_power_w)),
    Column("energy_of", lambda _, engine: _energy(engine, lambda e: e.covers)),
    Column("file_sha256", lambda _, engine: engine.sha256),
    Column("checkpoint_sha256", lambda _, engine: engine.engine.checkpoint_sha256),
)
"""In the order of the CSV. Scripts of users read it by these names: they stay, and new ones go to the end."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One row of a table for people."""

    name: str
    engine: EngineResult | None
    """None for bicubic upscaling, where only the quality is measured."""
    texts: dict[str, str]
    """Key of a column -> its figure."""


def shown_columns(report: Report) -> list[Column]:
    """Return the columns of the tables for people; energy only where one engine has it."""
    measured = any(engine.energy for engine in report.engines)
    return [column for column in COLUMNS if column.digits and (measured or column.key != "energy_per_image_j")]


def figure_rows(report: Report) -> list[FigureRow]:
    """Return the rows of the tables for people: the engines, fastest first, and bicubic upscaling."""
    columns = shown_columns(report)
    rows = [FigureRow(engine.name, engine, engine_texts(report, engine)) for engine in by_latency(report.engines)]
    for baseline in report.baselines:
        values = {"psnr_y_db": _psnr(baseline.quality), "ssim_y": baseline.quality.ssim_y}
        texts = {column.key: column.text(values.get(column.key)) for column in columns}
        rows.append(FigureRow(f"bicubic x{baseline.scale}", None, texts))
    return rows


def engine_texts(report: Report, engine: EngineResult) -> dict[str, str]:
    """Return the figures of an engine by the keys of their columns; a median that does not compare has a star."""
    texts = {column.key: column.text(column.value(report, engine)) or MISSING for column in shown_columns(report)}
    if timed_otherwise(engine):
        texts["latency_median_ms"] += STAR
    return texts


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """Return an interval in words, nothing where there is none."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else ""


def decibels(value: float | None) -> str:
    """Format a PSNR; None means infinite."""
    return "inf" if value is None else f"{value:.2f}"
