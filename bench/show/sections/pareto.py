"""The section of speed against quality: which engines are worth choosing from, and which are beaten in both."""

from collections.abc import Sequence
from html import escape

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
from drc_deploy.bench.show.console import decibels
from drc_deploy.bench.show.page_figures import COLOURS, NARROW_PX, WIDE_PX, chip


def pareto_front(engines: Sequence[EngineResult]) -> list[EngineResult]:
    """Return the engines that none of the others beats, from the fastest to the slowest.

    An engine is beaten by one with at most its median and at least its PSNR, to the hundredth of a dB, that is better
    in one of the two.
    """
    return [engine for engine in by_latency(engines) if not any(_beats(other, engine) for other in engines)]


def _beats(engine: EngineResult, other: EngineResult) -> bool:
    mine, theirs = (engine.latency.median_ms, -psnr(engine)), (other.latency.median_ms, -psnr(other))
    return mine != theirs and mine[0] <= theirs[0] and mine[1] <= theirs[1]


def pareto_section(report: Report, scale: int) -> str:
    """Return plot, front and legend for the engines of one scale; nothing where every PSNR is infinite."""
    ranked = by_latency(report.engines)
    rivals = [engine for engine in ranked if engine.engine.scale == scale]
    # What is no latency of one image, but a share of many, has no place on this axis.
    rivals = [engine for engine in rivals if timed_otherwise(engine) is None]
    shown = [engine for engine in rivals if engine.quality.psnr_y is not None]
    if not shown:
        return ""
    front, kind = pareto_front(shown), shared_memory(shown)
    points = [
        charts.Point(
            mark=str(ranked.index(engine) + 1),
            label=engine.name,
            colour=ranked.index(engine) % COLOURS,
            latency_ms=engine.latency.median_ms,
            psnr_db=psnr(engine),
            memory_bytes=memory_bytes(engine, kind),
            on_front=engine in front,
        )
        for engine in shown
    ]
    bicubic = report.baseline(scale).psnr_y
    drawings = charts.scatter(points, bicubic, WIDE_PX, 440) + charts.scatter(points, bicubic, NARROW_PX, 330)
    legend = "".join(_legend_entry(report, engine, ranked.index(engine), engine in front) for engine in rivals)
    area = f"The area of a disc is the peak {kind} memory. " if kind else ""
    return (
        f'<section id="speed-x{scale}"><h2>Speed against quality, &times;{scale}</h2>'
        f"<p>Left is faster, up is closer to the original. {area}{_front_words(front, len(shown))}</p>"
        f'{drawings}<ul class="legend">{legend}</ul></section>'
    )


def _front_words(front: Sequence[EngineResult], count: int) -> str:
    if count == 1:
        return ""
    names = ", ".join(escape(engine.name) for engine in front)
    beaten = " Behind it lie the pale ones: another is at least as fast and as good." if len(front) < count else ""
    return f"The line is the Pareto front of the medians: {names}.{beaten}"


def _legend_entry(report: Report, engine: EngineResult, index: int, on_front: bool) -> str:
    gain = gain_over_bicubic(report, engine)
    figures = f"{engine.latency.median_ms:.1f} ms, {decibels(engine.quality.psnr_y)} dB"
    figures += "" if gain is None else f" ({gain:+.2f})"
    figures += "" if on_front or engine.quality.psnr_y is None else ", behind the front"
    return f'<li>{chip(index)} {escape(engine.name)} <span class="small">{figures}</span></li>'
