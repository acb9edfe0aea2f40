"""The charts of the report as SVG text: latency against PSNR, single runs, their distribution, sensors over time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import fmean

from drc_deploy.bench.machine.telemetry.trace import Window
from drc_deploy.bench.report.records import EngineResult
from drc_deploy.bench.show.drawing import (
    FOOT_PX,
    NARROW_BELOW_PX,
    Axis,
    fit_axis,
    horizontal_axis,
    line,
    shape,
    svg,
    text,
    vertical_axis,
)

COLOURS = 8
"""Colours of engines in the style sheet."""
WIDE_PX, NARROW_PX = 1020, 340
"""Widths of each chart: for desktops, and for phones."""
LARGEST_RADIUS, SMALLEST_RADIUS, BADGE_RADIUS = 24.0, 5.0, 9.0
BAND_HEIGHT, BAND_PITCH = 42.0, 74.0
CURVE_HEIGHT, CURVE_PITCH = 62.0, 104.0
PANEL_PX, GAP_PX, LEFT_PX = 120, 34, 46
NAME_CHARACTER_PX = 8.4
"""Width of a character in the names of engines, generously."""
MAX_DOTS, MAX_STEPS, MAX_POINTS = 600, 300, 400
"""Runs drawn for one engine, steps of its distribution, and points of a sensor; longer series are thinned."""
LARGEST_RATIO = 2.0
"""Where the axis of the distributions ends, at the latest; slower runs are counted in words."""
MARK_WIDTH_PX = 11
"""Rounds drawn less wide than this have no number."""

Place = tuple[float, float]
Reading = tuple[float, float | None]
"""Seconds since the start of the trace, and a value; None is a gap."""


@dataclass(frozen=True, slots=True)
class Point:
    """One engine in the scatter plot."""

    index: int
    """Its place by latency, which gives its number and colour."""
    name: str
    latency_ms: float
    psnr_db: float
    memory_bytes: int | None
    on_front: bool
    """Whether no other engine is both as fast and as good."""

    @property
    def description(self) -> str:
        """Name and figures in words."""
        return f"{self.name}: {self.latency_ms:.1f} ms, {self.psnr_db:.2f} dB"

    @property
    def kind(self) -> str:
        """Class of its shapes in the style sheet."""
        return colour(self.index) if self.on_front else f"{colour(self.index)} dominated"


@dataclass(frozen=True, slots=True)
class Panel:
    """The sensors of one kind, over one axis."""

    title: str
    lines: Mapping[str, Sequence[Reading]]
    """Name of a sensor -> its points."""


def colour(index: int) -> str:
    """Return the class of an engine's colour in the style sheet."""
    return f"e{index % COLOURS}"


def for_all_widths(draw: Callable[[int], str]) -> str:
    """Draw a chart for desktops and for phones; the style sheet shows one of the two."""
    return draw(WIDE_PX) + draw(NARROW_PX)


def scatter(points: Sequence[Point], bicubic_db: float | None, width: int) -> str:
    """Draw latency (x) against PSNR (y); the area of a disc is the memory, a line is bicubic upscaling."""
    height = 330 if width < NARROW_BELOW_PX else 440
    levels = [point.psnr_db for point in points] + ([bicubic_db] if bicubic_db is not None else [])
    x = fit_axis([point.latency_ms for point in points], 52, width - 24, may_be_log=True)
    y = fit_axis(levels, height - FOOT_PX, 18)
    parts = [*horizontal_axis(x, y.stop, y.start, "latency of one image, ms ← faster"), *vertical_axis(y, x)]
    turned = f"translate(13 {y.start / 2:.0f}) rotate(-90)"
    parts.append(shape("text", "title", "PSNR-Y, dB → better", transform=turned, text_anchor="middle"))
    if bicubic_db is not None:
        at = y.position(bicubic_db)
        parts.append(line("level", (x.start, at), (x.stop, at)))
        parts.append(text("hint", x.stop, at - 6, f"bicubic {bicubic_db:.2f} dB", "end"))
    parts.append(_front(points, x, y))
    largest = max(point.memory_bytes or 0 for point in points) or 1
    discs = []
    for point in points:
        radius = max(LARGEST_RADIUS * math.sqrt((point.memory_bytes or 0) / largest), SMALLEST_RADIUS)
        discs.append((point, (x.position(point.latency_ms), y.position(point.psnr_db)), radius))
    parts += [_disc(*disc) for disc in sorted(discs, key=lambda disc: -disc[2])]
    badges: list[Place] = []
    for point, at_disc, radius in discs:
        badges.append(_free_spot(at_disc, radius, badges, (width, height)))
        parts.append(_badge(point, badges[-1], at_disc))
    return svg(width, height, f"Latency against PSNR. {'; '.join(point.description for point in points)}", parts)


def _front(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Draw the Pareto front as a staircase: engines right of it or below it are dominated."""
    best = sorted((point for point in points if point.on_front), key=lambda point: point.latency_ms)
    places = [(x.position(point.latency_ms), y.position(point.psnr_db)) for point in best]
    steps = "".join(f"H{at:.1f}V{level:.1f}" for at, level in places[1:])
    return shape("path", "front", d=f"M{places[0][0]:.1f} {y.start:.1f}V{places[0][1]:.1f}{steps}H{x.stop:.1f}")


def _disc(point: Point, place: Place, radius: float) -> str:
    circles = (shape("circle", kind, cx=place[0], cy=place[1], r=r) for kind, r in (("disc", radius), ("core", 2.5)))
    return f'<g class="{point.kind}"><title>{escape(point.description)}</title>{"".join(circles)}</g>'


def _badge(point: Point, spot: Place, disc: Place) -> str:
    x, y = spot
    circle, mark = shape("circle", "badge", cx=x, cy=y, r=BADGE_RADIUS), str(point.index + 1)
    return f'<g class="{point.kind}">{line("leader", disc, spot)}{circle}{text("mark", x, y + 4, mark, "middle")}</g>'


def _free_spot(disc: Place, radius: float, taken: Sequence[Place], size: tuple[int, int]) -> Place:
    """Return a place for a badge next to its disc that no other badge covers."""
    spots = [
        (disc[0] + math.cos(angle) * distance, disc[1] + math.sin(angle) * distance)
        for distance in (radius + 14, radius + 34, radius + 54)
        for angle in (math.radians(degrees) for degrees in (-60, -120, 60, 120, 0, 180, -90, 90))
    ]
    inside = [spot for spot in spots if 56 < spot[0] < size[0] - 12 and 12 < spot[1] < size[1] - 56]
    free = [spot for spot in inside if all(math.dist(spot, other) > 2 * BADGE_RADIUS + 2 for other in taken)]
    return (free or inside or spots)[0]


def run_bands(engines: Sequence[EngineResult], width: int) -> str:
    """Draw each run as a dot: latency from left to right, the order of the runs from top to bottom.

    The engines are sorted by latency, here and in the other charts.
    """
    bottom = BAND_PITCH * len(engines)
    x = fit_axis([sample for engine in engines for sample in _samples(engine)], 8, width - 8, may_be_log=True)
    parts = list(horizontal_axis(x, 0, bottom, "milliseconds"))
    for index, engine in enumerate(engines):
        parts += _band(index, engine, x, BAND_PITCH * (index + 1) - BAND_HEIGHT - 4, width)
    described = [f"{one.name}: {one.latency.runs} runs, median {one.latency.median_ms:.1f} ms" for one in engines]
    return svg(width, int(bottom) + FOOT_PX, f"Every timed run. {'; '.join(described)}", parts)


def _samples(engine: EngineResult) -> list[float]:
    return [sample for round_ms in engine.latency.rounds_ms for sample in round_ms]


def _band(index: int, engine: EngineResult, x: Axis, top: float, width: int) -> Iterator[str]:
    samples, latency = _samples(engine), engine.latency
    shown = sorted({*range(0, len(samples), math.ceil(len(samples) / MAX_DOTS)), *latency.outliers})

    def dots(runs: Iterable[int]) -> str:
        places = ((x.position(samples[run]), top + (run + 0.5) * BAND_HEIGHT / len(samples)) for run in runs)
        return "".join(f"M{across:.1f} {down:.1f}h0" for across, down in places)

    yield shape("rect", "band", x=0, y=top, width=width, height=BAND_HEIGHT)
    yield text("name", 8, top - 7, _heading(index, engine.name, width - 100))
    yield text("name value", width - 8, top - 7, f"{latency.median_ms:.1f} ms", "end")
    yield shape("path", "rings", d=dots(latency.outliers))
    yield shape("path", f"dots {colour(index)}", d=dots(shown))
    for kind, value in (("median", latency.median_ms), ("p90", latency.p90_ms)):
        if value is not None:
            yield line(kind, (x.position(value), top), (x.position(value), top + BAND_HEIGHT))


def _heading(index: int, name: str, width_px: float) -> str:
    """Return number and name of an engine in at most ``width_px``; a long name is shortened in the middle."""
    mark = str(index + 1)
    longest = int(width_px / NAME_CHARACTER_PX) - len(mark) - 2
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[-(longest - longest // 2 - 1) :]}"
    return f"{mark}  {name}"


def distributions(engines: Sequence[EngineResult], width: int) -> str:
    """Draw the empirical distribution of each engine's latency, as multiples of its own median."""
    ratios = [sorted(sample / engine.latency.median_ms for sample in _samples(engine)) for engine in engines]
    x = fit_axis([min(value, LARGEST_RATIO) for values in ratios for value in values], LEFT_PX, width - 8)
    bottom = CURVE_PITCH * len(engines)
    parts = list(horizontal_axis(x, 0, bottom, "times the median", "x"))
    for index, (engine, values) in enumerate(zip(engines, ratios, strict=True)):
        base = CURVE_PITCH * (index + 1) - 4
        y = Axis(0.0, 1.0, base, base - CURVE_HEIGHT)
        parts += _distribution(_heading(index, engine.name, x.stop), colour(index), values, x, y)
    described = (f"{engine.name}: {one[0]:.2f} to {one[-1]:.2f}" for engine, one in zip(engines, ratios, strict=True))
    words = f"Distribution of the latencies, in times the median. {'; '.join(described)}"
    return svg(width, int(bottom) + FOOT_PX, words, parts)


def _distribution(heading: str, kind: str, ratios: Sequence[float], x: Axis, y: Axis) -> Iterator[str]:
    for share in (0.0, 0.5, 0.9, 1.0):
        at = y.position(share)
        yield line("grid", (x.start, at), (x.stop, at))
        if share not in (0.0, 1.0):
            yield text("tick", x.start - 6, at + 4, f"{share:.0%}", "end")
    beyond = sum(ratio > LARGEST_RATIO for ratio in ratios)
    count = f"{beyond} of {len(ratios)} runs beyond {LARGEST_RATIO:g}x" if beyond else f"{len(ratios)} runs"
    curve = _steps(ratios, x, y)
    yield text("name", 8, y.stop - 22, heading)
    yield text("hint", 8, y.stop - 6, count)
    yield shape("path", f"area {kind}", d=f"{curve}V{y.start:.1f}Z")
    yield shape("path", f"curve {kind}", d=curve)


def _steps(ratios: Sequence[float], x: Axis, y: Axis) -> str:
    """Return the curve that rises by its part at each run, up to the end of the axis."""
    every = math.ceil(len(ratios) / MAX_STEPS)
    path = f"M{x.start:.1f} {y.position(0):.1f}"
    for count in (*range(1, len(ratios), every), len(ratios)):
        if ratios[count - 1] > LARGEST_RATIO:
            break
        path += f"H{x.position(ratios[count - 1]):.1f}V{y.position(count / len(ratios)):.1f}"
    return f"{path}H{x.stop:.1f}"


def traces(panels: Sequence[Panel], rounds: Sequence[Sequence[Window]], width: int) -> str:
    """Draw sensors over the seconds of a run, one panel below the other, with the rounds of each engine shaded."""
    bottom = len(panels) * (PANEL_PX + GAP_PX)
    ends = [at for panel in panels for points in panel.lines.values() for at in (points[0][0], points[-1][0])]
    x = Axis(min(ends), max(ends) if max(ends) > min(ends) else min(ends) + 1, LEFT_PX, width - 20)
    parts = list(horizontal_axis(x, bottom - 5, bottom, "seconds"))
    described = []
    for index, panel in enumerate(panels):
        top = (index + 1) * GAP_PX + index * PANEL_PX
        parts += [*_shading(rounds, x, top, marked=index == 0), *_panel(panel, x, top)]
        for name, points in panel.lines.items():
            values = [value for _, value in points if value is not None]
            described.append(f"{name}: {min(values):.4g} to {max(values):.4g}")
    return svg(width, bottom + FOOT_PX, f"Sensors over the run. {'; '.join(described)}", parts)


def _shading(rounds: Sequence[Sequence[Window]], x: Axis, top: int, *, marked: bool) -> Iterator[str]:
    for index, windows in enumerate(rounds):
        for window in windows:
            left, right = (min(max(x.position(at), x.start), x.stop) for at in window)
            yield shape("rect", f"shade {colour(index)}", x=left, y=top, width=right - left, height=PANEL_PX)
            if marked and right - left >= MARK_WIDTH_PX:
                yield text("tick", (left + right) / 2, top + 14, str(index + 1), "middle")


def _panel(panel: Panel, x: Axis, top: int) -> Iterator[str]:
    values = [value for points in panel.lines.values() for _, value in points if value is not None]
    y = fit_axis(values, top + PANEL_PX, top)
    yield from vertical_axis(y, x)
    yield text("name", x.start, top - 8, panel.title)
    for number, points in enumerate(panel.lines.values()):
        yield shape("path", f"trace d{number}", d=_path(points, x, y))


def _path(points: Sequence[Reading], x: Axis, y: Axis) -> str:
    """Return the line through the points, interrupted where a value is missing."""
    path, broken = "", True
    for at, value in thinned(points):
        if value is not None:
            path += f"{'M' if broken else 'L'}{x.position(at):.1f} {y.position(value):.1f}"
        broken = value is None
    return path


def thinned(points: Sequence[Reading]) -> list[Reading]:
    """Return at most ``MAX_POINTS`` points, each the mean of its neighbours; a group without any value is a gap."""
    size = math.ceil(len(points) / MAX_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    known = [[value for _, value in group if value is not None] for group in groups]
    return [
        (fmean(at for at, _ in group), fmean(values) if values else None)
        for group, values in zip(groups, known, strict=True)
    ]


def rates(points: Sequence[Reading]) -> list[Reading]:
    """Return the power between readings of an energy counter in joules; where the counter falls, there is a gap."""
    powers: list[Reading] = []
    for (start_s, before), (end_s, after) in pairwise(points):
        if end_s > start_s:
            power = None
            if before is not None and after is not None and after >= before:
                power = (after - before) / (end_s - start_s)
            powers.append(((start_s + end_s) / 2, power))
    return powers
