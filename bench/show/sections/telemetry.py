"""The section of what the machine told of itself: power, temperature and clocks over the run."""

from collections.abc import Iterator, Sequence
from html import escape

from drc_deploy.bench.machine.telemetry.power_state import power_state_text
from drc_deploy.bench.machine.telemetry.summary import EngineTelemetry, Telemetry
from drc_deploy.bench.machine.telemetry.trace import Kind, Series, Trace, Track, samples_within
from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.records import EngineResult, Report
from drc_deploy.bench.show.page_figures import COLOURS, NARROW_PX, WIDE_PX, chip, definitions
from drc_deploy.bench.show.sections.trace_chart import Line, Panel, Shade, rates, traces

MAX_LINES = 4
"""Sensors in one panel: those with the highest values."""
TITLES: dict[Kind, str] = {"power": "power, W", "temperature": "temperature, &#176;C", "clock": "clock, MHz"}


def telemetry_section(report: Report) -> str:
    """Return charts, the figures of each engine, and what is missing; nothing for reports without telemetry."""
    telemetry = report.telemetry
    if telemetry is None:
        return ""
    engines = by_latency(report.engines)
    panels = [panel for kind in TITLES if (panel := _panel(telemetry.trace, kind)).lines]
    notes = "".join(f'<p class="small">{escape(note)}</p>' for note in telemetry.notes)
    return (
        '<section id="machine-over-time"><h2>Power, temperature and clocks</h2>'
        f"<p>{escape(telemetry.summary)}</p>{_charts(panels, engines)}{_held_back(telemetry.trace)}"
        f"{_energies(engines)}{definitions({'set to': power_state_text(telemetry.state)})}{notes}"
        f"{_missing(telemetry, engines)}</section>"
    )


def _charts(panels: Sequence[Panel], engines: Sequence[EngineResult]) -> str:
    if not panels:
        return ""
    shades = [
        Shade(str(index + 1), index % COLOURS, engine.telemetry.rounds_s if engine.telemetry else ())
        for index, engine in enumerate(engines)
    ]
    chips = "".join(f"<li>{chip(index)} {escape(engine.name)}</li>" for index, engine in enumerate(engines))
    keys = "".join(_key(panel, number, line) for panel in panels for number, line in enumerate(panel.lines))
    return (
        f"<p>Shaded is the time in which an engine was timed.</p>{traces(panels, shades, WIDE_PX)}"
        f'{traces(panels, shades, NARROW_PX)}<ul class="legend">{keys}{chips}</ul>'
    )


def _key(panel: Panel, number: int, line: Line) -> str:
    dash = f'<svg class="key" viewBox="0 0 34 8" aria-hidden="true"><path class="trace d{number}" d="M1 4H33"/></svg>'
    return f'<li>{dash} {escape(line.name)} <span class="small">{panel.title.split(",")[0]}</span></li>'


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


def _held_back(trace: Trace) -> str:
    """Say which limits held at any time of the run, and for what part of it."""
    limits = list(trace.series("throttle"))
    shares = {series.name: samples_within(track, series, [(0.0, float("inf"))]) for track, series in limits}
    held = [f"{name} ({values.mean():.0%} of the time)" for name, values in shares.items() if values.any()]
    if held:
        return f'<p><b class="bad">Held back by {escape(", ".join(held))}.</b></p>'
    return f"<p>None of {len(limits)} limits that were watched held the machine back.</p>" if limits else ""


def _energies(engines: Sequence[EngineResult]) -> str:
    if all(engine.telemetry is None or engine.telemetry.energy is None for engine in engines):
        return ""
    rows = "".join(
        f"<tr><td>{chip(index)} {escape(engine.name)}</td>{_cells(engine.telemetry)}</tr>"
        for index, engine in enumerate(engines)
        if engine.telemetry
    )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("engine", "J an image", "mean W", "idle W", "of"))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Energy of each engine"><table><thead>'
        f"<tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(told: EngineTelemetry) -> str:
    energy = told.energy
    if energy is None:
        return "<td>n/a</td>" * 3 + "<td></td>"
    idle = "n/a" if energy.idle_power_w is None else f"{energy.idle_power_w:.1f}"
    figures = (
        f"{energy.per_image_j:.3g}",
        f"{energy.mean_power_w:.1f}",
        idle,
        escape(f"{energy.covers} ({energy.of})"),
    )
    return "".join(f"<td>{figure}</td>" for figure in figures)


def _missing(telemetry: Telemetry, engines: Sequence[EngineResult]) -> str:
    """Return what the machine does not tell, and then what could not be told of single engines, folded away."""
    reasons = {
        what: why for engine in engines if engine.telemetry for what, why in engine.telemetry.unavailable.items()
    }
    known = set(telemetry.unavailable.values())
    own = {what.replace("_", " "): why for what, why in reasons.items() if why not in known}
    entries = definitions(telemetry.unavailable | own)
    return f"<details><summary>What this machine does not tell</summary>{entries}</details>" if entries else ""
