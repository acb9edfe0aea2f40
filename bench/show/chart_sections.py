"""The sections with charts: speed against quality, every timed run, and the sensors over the run."""

import math
from collections.abc import Sequence
from functools import partial

from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.machine.telemetry.summary import Telemetry
from drc_deploy.bench.machine.telemetry.trace import Kind, Series, Trace, Track, samples_within
from drc_deploy.bench.report.conclusions import (
    by_latency,
    gain_over_bicubic,
    memory_bytes,
    psnr,
    shared_memory,
    timed_otherwise,
)
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show import charts
from drc_deploy.bench.show.charts import Panel, Point, Reading
from drc_deploy.bench.show.figures import decibels
from drc_deploy.bench.show.view import Cell, Section

MAX_LINES = 4
"""Sensors in one panel: those with the highest values."""
TITLES: dict[Kind, str] = {"power": "power, W", "temperature": "temperature, °C", "clock": "clock, MHz"}


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
    engines = [
        (index, engine)
        for index, engine in enumerate(by_latency(report.engines))
        # A share of the time of many images has no place on an axis of latencies.
        if engine.engine.scale == scale and timed_otherwise(engine) is None
    ]
    shown = [engine for _, engine in engines if engine.quality.psnr_y is not None]
    if not shown:
        return None
    front, kind = pareto_front(shown), shared_memory(shown)
    points, legend = [], []
    for index, engine in engines:
        gain, on_front, median_ms = gain_over_bicubic(report, engine), engine in front, engine.latency.median_ms
        words = f"{median_ms:.1f} ms, {decibels(engine.quality.psnr_y)} dB"
        words += "" if gain is None else f" ({gain:+.2f})"
        if engine.quality.psnr_y is not None:
            points.append(Point(index, engine.name, median_ms, psnr(engine), memory_bytes(engine, kind), on_front))
            words += "" if on_front else ", not on the front"
        legend.append(Cell(engine.name, (words,), index))
    view = {
        "memory": kind,
        "front": [engine.name for engine in front] if len(shown) > 1 else [],
        "pale": len(front) < len(shown),
        "chart": charts.for_all_widths(partial(charts.scatter, points, report.baseline(scale).psnr_y)),
        "legend": legend,
    }
    return Section(f"speed-x{scale}", f"Speed against quality, x{scale}", "speed", view)


def runs_section(engines: Sequence[EngineResult]) -> Section | None:
    """Show every timed run of engines that are sorted by latency; None where there are none."""
    if not engines:
        return None
    view = {
        "ringed": any(engine.latency.outliers for engine in engines),
        "chart": charts.for_all_widths(partial(charts.run_bands, engines)),
        "distributions": charts.for_all_widths(partial(charts.distributions, engines)),
    }
    return Section("runs", "Every timed run", "runs", view)


def telemetry_section(report: Report) -> Section | None:
    """Return charts, the energy of each engine, and what is missing; None for reports without telemetry."""
    telemetry = report.telemetry
    if telemetry is None:
        return None
    engines = by_latency(report.engines)
    panels = [panel for kind in TITLES if (panel := _panel(telemetry.trace, kind)).lines]
    rounds = [engine.telemetry.rounds_s if engine.telemetry else () for engine in engines]
    view = {
        "summary": telemetry.summary,
        "chart": charts.for_all_widths(partial(charts.traces, panels, rounds)) if panels else "",
        "keys": [(number, name, panel.title) for panel in panels for number, name in enumerate(panel.lines)],
        "engines": engines,
        "throttled": _throttled(telemetry.trace),
        "limits": len(list(telemetry.trace.series("throttle"))),
        "energy": any(engine.energy for engine in engines),
        "state": {"set to": power_state_text(telemetry.state)},
        "notes": telemetry.notes,
        "unavailable": _unavailable(telemetry, engines),
    }
    return Section("machine-over-time", "Power, temperature and clocks", "telemetry", view)


def _panel(trace: Trace, kind: Kind) -> Panel:
    lines = {series.name: _points(track, series) for track, series in trace.series(kind)}
    if kind == "power":
        for track, series in trace.series("energy"):
            lines[f"{series.name}, from its energy counter"] = charts.rates(_points(track, series))

    def highest(name: str) -> float:
        return max((value for _, value in lines[name] if value is not None), default=-math.inf)

    names = sorted((name for name in lines if highest(name) > -math.inf), key=highest, reverse=True)
    more = f" (the {MAX_LINES} highest of {len(names)})" if len(names) > MAX_LINES else ""
    return Panel(TITLES[kind] + more, {name: lines[name] for name in names[:MAX_LINES]})


def _points(track: Track, series: Series) -> list[Reading]:
    return list(zip(track.times_s, series.values, strict=True))


def _throttled(trace: Trace) -> str:
    """Return the limits that throttled the machine at any time of the run, each with its share of the time."""
    limits = trace.series("throttle")
    shares = {series.name: samples_within(track, series, [(0.0, float("inf"))]) for track, series in limits}
    return ", ".join(f"{name} ({values.mean():.0%} of the time)" for name, values in shares.items() if values.any())


def _unavailable(telemetry: Telemetry, engines: Sequence[EngineResult]) -> dict[str, str]:
    """Return the sensors that the machine lacks, and then the figures that single engines lack, with the reasons."""
    known = set(telemetry.unavailable.values())
    own = {
        figure.replace("_", " "): why
        for engine in engines
        if engine.telemetry
        for figure, why in engine.telemetry.unavailable.items()
        if why not in known
    }
    return telemetry.unavailable | own
