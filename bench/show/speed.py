"""The sections with charts of latency: speed against quality, and every timed run."""

from collections.abc import Sequence
from functools import partial

from drc_deploy.bench.report.conclusions import (
    by_latency,
    gain_over_bicubic,
    memory_bytes,
    psnr,
    shared_memory,
    timed_otherwise,
)
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show.charts import Band, Point, distributions, for_all_widths, run_bands, scatter
from drc_deploy.bench.show.figures import decibels
from drc_deploy.bench.show.view import Cell, Section


def pareto_front(engines: Sequence[EngineResult]) -> list[EngineResult]:
    """Return the engines that no other one dominates, from the fastest to the slowest.

    An engine is dominated by one with at most its median and at least its PSNR, to the hundredth of a dB, that is
    better in one of the two.
    """
    return [engine for engine in by_latency(engines) if not any(_dominates(other, engine) for other in engines)]


def _dominates(engine: EngineResult, other: EngineResult) -> bool:
    mine, theirs = (engine.latency.median_ms, -psnr(engine)), (other.latency.median_ms, -psnr(other))
    return mine != theirs and mine[0] <= theirs[0] and mine[1] <= theirs[1]


def speed_section(report: Report, scale: int) -> Section | None:
    """Return plot, Pareto front and legend for the engines of one scale; None where every PSNR is infinite."""
    ranks = {engine.name: index for index, engine in enumerate(by_latency(report.engines))}
    # A share of the time of many images has no place on an axis of latencies.
    engines = [
        engine
        for engine in by_latency(report.engines)
        if engine.engine.scale == scale and timed_otherwise(engine) is None
    ]
    shown = [engine for engine in engines if engine.quality.psnr_y is not None]
    if not shown:
        return None
    front, kind = pareto_front(shown), shared_memory(shown)
    points = [
        Point(
            index=ranks[engine.name],
            name=engine.name,
            latency_ms=engine.latency.median_ms,
            psnr_db=psnr(engine),
            memory_bytes=memory_bytes(engine, kind),
            on_front=engine in front,
        )
        for engine in shown
    ]
    view = {
        "memory": kind,
        "front": [engine.name for engine in front] if len(shown) > 1 else [],
        "pale": len(front) < len(shown),
        "chart": for_all_widths(partial(scatter, points, report.baseline(scale).psnr_y)),
        "legend": [
            Cell(engine.name, (_legend_words(report, engine, on_front=engine in front),), ranks[engine.name])
            for engine in engines
        ],
    }
    return Section(f"speed-x{scale}", f"Speed against quality, x{scale}", "speed", view)


def _legend_words(report: Report, engine: EngineResult, *, on_front: bool) -> str:
    gain = gain_over_bicubic(report, engine)
    words = f"{engine.latency.median_ms:.1f} ms, {decibels(engine.quality.psnr_y)} dB"
    words += "" if gain is None else f" ({gain:+.2f})"
    return words if on_front or engine.quality.psnr_y is None else f"{words}, not on the front"


def runs_section(engines: Sequence[EngineResult]) -> Section | None:
    """Show every timed run of engines that are sorted by latency; None where there are none."""
    if not engines:
        return None
    bands = [
        Band(
            index=index,
            name=engine.name,
            samples_ms=[sample for round_ms in engine.latency.rounds_ms for sample in round_ms],
            median_ms=engine.latency.median_ms,
            p90_ms=engine.latency.p90_ms,
            outliers=engine.latency.outliers,
        )
        for index, engine in enumerate(engines)
    ]
    view = {
        "ringed": any(band.outliers for band in bands),
        "chart": for_all_widths(partial(run_bands, bands)),
        "distributions": for_all_widths(partial(distributions, bands)),
    }
    return Section("runs", "Every timed run", "runs", view)
