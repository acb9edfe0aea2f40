"""The section of layers: what takes the time inside each engine."""

from collections.abc import Sequence
from html import escape

from drc_deploy.bench.measure.layer_times import LayerProfile, LayerTime
from drc_deploy.bench.report.records import EngineResult
from drc_deploy.bench.show.page_figures import chip

TOP = 10
"""Layers in the table; the others are one row."""
OPERATIONS = 5


def layers_section(engines: Sequence[EngineResult]) -> str:
    """Return one foldable table for each engine, or why it has none; nothing for reports without profiles."""
    profiles = [(index, engine, engine.layers) for index, engine in enumerate(engines) if engine.layers is not None]
    if not profiles:
        return ""
    first = next((index for index, _, profile in profiles if profile.layers), None)
    parts = [_details(index, engine, profile, opened=index == first) for index, engine, profile in profiles]
    return (
        '<section id="layers"><h2>Where the time goes</h2><p>The layers that take longest, as the library runs them. '
        "Profiling slows an engine down: look at the shares, and at the timed runs for the speed.</p>"
        f"{''.join(parts)}</section>"
    )


def _details(index: int, engine: EngineResult, profile: LayerProfile, *, opened: bool) -> str:
    name = f"{chip(index)} {escape(engine.name)}"
    if not profile.layers:
        return f'<p>{name} <span class="small">{escape(profile.note)}</span></p>'
    total = sum(layer.fastest_ms for layer in profile.layers) or 1.0  # all too short for the clock
    kinds, state = escape(_by_operation(profile.layers, total)), " open" if opened else ""
    return (
        f'<details{state}><summary>{name} <span class="small">{kinds}</span>'
        f"</summary>{_table(engine.name, profile.layers, total)}"
        f'<p class="small">{escape(profile.note[:1].upper() + profile.note[1:])}.</p></details>'
    )


def _by_operation(layers: Sequence[LayerTime], total_ms: float) -> str:
    """Say what part of the time each kind of operation takes."""
    times = dict.fromkeys((layer.operation for layer in layers), 0.0)
    for layer in layers:
        times[layer.operation] += layer.fastest_ms
    longest = sorted(times.items(), key=lambda item: -item[1])[:OPERATIONS]
    return ", ".join(f"{operation} {ms / total_ms:.0%}" for operation, ms in longest)


def _table(engine: str, layers: Sequence[LayerTime], total_ms: float) -> str:
    slowest = sorted(layers, key=lambda layer: -layer.fastest_ms)
    rows = "".join(_row(layer.name, layer.operation, layer.fastest_ms, total_ms) for layer in slowest[:TOP])
    rest = slowest[TOP:]
    if rest:
        rows += _row(f"{len(rest)} others", "", sum(layer.fastest_ms for layer in rest), total_ms)
    head = "".join(f'<th scope="col">{title}</th>' for title in ("layer", "operation", "ms", "share", ""))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Layers of {escape(engine)}"><table class="layers">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(name: str, operation: str, ms: float, total_ms: float) -> str:
    share = ms / total_ms
    bar = f'<span class="bar" style="width: {100 * share:.1f}%"></span>'
    return (
        f"<tr><td>{escape(name)}</td><td>{escape(operation)}</td><td>{ms:.2f}</td><td>{share:.1%}</td>"
        f"<td>{bar}</td></tr>"
    )
