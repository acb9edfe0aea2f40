"""The section of power, temperature and clocks over the run."""

from collections.abc import Iterator, Sequence
from functools import partial

from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.machine.telemetry.summary import Telemetry
from drc_deploy.bench.machine.telemetry.trace import Kind, Series, Trace, Track, samples_within
from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show.charts import Line, Panel, Shade, for_all_widths, rates, traces
from drc_deploy.bench.show.figures import energy_of
from drc_deploy.bench.show.view import Section

MAX_LINES = 4
"""Sensors in one panel: those with the highest values."""
TITLES: dict[Kind, str] = {"power": "power, W", "temperature": "temperature, °C", "clock": "clock, MHz"}


def telemetry_section(report: Report) -> Section | None:
    """Return charts, the energy of each engine, and what is missing; None for reports without telemetry."""
    telemetry = report.telemetry
    if telemetry is None:
        return None
    engines = by_latency(report.engines)
    panels = [panel for kind in TITLES if (panel := _panel(telemetry.trace, kind)).lines]
    shades = [
        Shade(index, engine.telemetry.rounds_s if engine.telemetry else ()) for index, engine in enumerate(engines)
    ]
    view = {
        "summary": telemetry.summary,
        "chart": for_all_widths(partial(traces, panels, shades)) if panels else "",
        "keys": [(number, line.name, panel.title) for panel in panels for number, line in enumerate(panel.lines)],
        "engines": engines,
        "throttled": _throttled(telemetry.trace),
        "limits": len(list(telemetry.trace.series("throttle"))),
        "energy": any(map(energy_of, engines)),
        "state": {"set to": power_state_text(telemetry.state)},
        "notes": telemetry.notes,
        "unavailable": _unavailable(telemetry, engines),
    }
    return Section("machine-over-time", "Power, temperature and clocks", "telemetry", view)


def _panel(trace: Trace, kind: Kind) -> Panel:
    lines = [line for line in _lines(trace, kind) if any(value is not None for _, value in line.points)]
    highest = sorted(lines, key=lambda line: -max(value for _, value in line.points if value is not None))
    left_out = len(highest) - MAX_LINES
    more = f" (the {MAX_LINES} highest of {len(highest)})" if left_out > 0 else ""
    return Panel(TITLES[kind] + more, highest[:MAX_LINES])


def _lines(trace: Trace, kind: Kind) -> Iterator[Line]:
    for track, series in trace.series(kind):
        yield Line(series.name, _points(track, series))
    if kind == "power":
        for track, series in trace.series("energy"):
            yield Line(f"{series.name}, from its energy counter", rates(_points(track, series)))


def _points(track: Track, series: Series) -> list[tuple[float, float | None]]:
    return list(zip(track.times_s, series.values, strict=True))


def _throttled(trace: Trace) -> str:
    """Return the limits that throttled the machine at any time of the run, each with its share of the time."""
    limits = trace.series("throttle")
    shares = {series.name: samples_within(track, series, [(0.0, float("inf"))]) for track, series in limits}
    return ", ".join(f"{name} ({values.mean():.0%} of the time)" for name, values in shares.items() if values.any())


def _unavailable(telemetry: Telemetry, engines: Sequence[EngineResult]) -> dict[str, str]:
    """Return the sensors that the machine lacks, and then the figures that single engines lack, with the reasons."""
    reasons = {
        figure: why for engine in engines if engine.telemetry for figure, why in engine.telemetry.unavailable.items()
    }
    known = set(telemetry.unavailable.values())
    own = {figure.replace("_", " "): why for figure, why in reasons.items() if why not in known}
    return telemetry.unavailable | own
