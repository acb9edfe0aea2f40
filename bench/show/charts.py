"""Two charts of the report as SVG text: latency against quality, and every timed run."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from drc_deploy.bench.show.axes import Axis, fit_axis

LARGEST_RADIUS = 24.0
SMALLEST_RADIUS = 5.0
BADGE_RADIUS = 9.0
BAND_HEIGHT = 42.0
BAND_PITCH = 74.0
NARROW_BELOW_PX = 600
"""A chart less wide than this is the one for phones; the style sheet shows one of the two."""
NAME_CHARACTER_PX = 8.4
"""Width of a character in the names of engines, generously."""
MAX_DOTS = 600
"""Runs drawn for one engine, evenly thinned where there are more."""


@dataclass(frozen=True, slots=True)
class Point:
    """One engine in the scatter plot."""

    mark: str
    label: str
    colour: int
    latency_ms: float
    psnr_db: float
    memory_bytes: int | None
    on_front: bool
    """Whether no other engine is both as fast and as good."""


@dataclass(frozen=True, slots=True)
class Band:
    """One engine's runs in the order in which they were made."""

    mark: str
    label: str
    colour: int
    samples_ms: Sequence[float]
    median_ms: float
    p90_ms: float | None
    outliers: Collection[int]
    """Which of the samples bear a ring."""


def scatter(points: Sequence[Point], bicubic_db: float | None, width: int, height: int) -> str:
    """Draw latency (x) against PSNR (y); the area of a disc is the memory, a line is bicubic upscaling."""
    levels = [point.psnr_db for point in points] + ([bicubic_db] if bicubic_db is not None else [])
    x = fit_axis([point.latency_ms for point in points], 52, width - 24, may_be_log=True)
    y = fit_axis(levels, height - 46, 18)
    parts = [
        *_grid(x, y),
        *_axis_titles(width, height, "latency of one image, ms &#8592; faster", "PSNR-Y, dB &#8594; better"),
    ]
    if bicubic_db is not None:
        parts += _level_line(x, y.position(bicubic_db), f"bicubic {bicubic_db:.2f} dB")
    parts.append(_front(points, x, y))
    largest = max((point.memory_bytes or 0 for point in points), default=0)
    discs = [(x.position(p.latency_ms), y.position(p.psnr_db), _radius(p.memory_bytes, largest)) for p in points]
    by_size = sorted(zip(points, discs, strict=True), key=lambda item: -item[1][2])
    parts += [_disc(point, disc) for point, disc in by_size]
    badges: list[tuple[float, float]] = []
    for point, disc in zip(points, discs, strict=True):
        badges.append(_free_spot(disc, badges, (width, height)))
        parts.append(_badge(point, badges[-1], disc))
    told = [f"{p.label}: {p.latency_ms:.1f} ms, {p.psnr_db:.2f} dB" for p in points]
    return svg(width, height, f"Latency against PSNR. {'; '.join(told)}", parts)


def _front(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Draw the Pareto front as a staircase: what lies right of it or below it is dominated."""
    best = sorted((point for point in points if point.on_front), key=lambda point: point.latency_ms)
    places = [(x.position(point.latency_ms), y.position(point.psnr_db)) for point in best]
    if not places:
        return ""
    steps = "".join(f"H{at:.1f}V{level:.1f}" for at, level in places[1:])
    path = f"M{places[0][0]:.1f} {y.start:.1f}V{places[0][1]:.1f}{steps}H{x.stop:.1f}"
    return f'<path class="front" d="{path}"/>'


def run_bands(bands: Sequence[Band], width: int) -> str:
    """Draw each run as a dot: latency from left to right, the order of the runs from top to bottom."""
    height = int(BAND_PITCH * len(bands) + 44)
    x = fit_axis([sample for band in bands for sample in band.samples_ms], 8, width - 8, may_be_log=True)
    parts = []
    for tick in x.ticks():
        at = x.position(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{height - 40}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{height - 24}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="title" x="{width / 2}" y="{height - 5}" text-anchor="middle">milliseconds</text>')
    for index, band in enumerate(bands):
        parts += _band(band, x, BAND_PITCH * index, width)
    told = [f"{band.label}: {len(band.samples_ms)} runs, median {band.median_ms:.1f} ms" for band in bands]
    return svg(width, height, f"Every timed run. {'; '.join(told)}", parts)


def _band(band: Band, x: Axis, top: float, width: int) -> list[str]:
    base = top + BAND_PITCH - BAND_HEIGHT - 4
    count = len(band.samples_ms)
    shown = sorted({*range(0, count, math.ceil(count / MAX_DOTS)), *band.outliers})

    def dots(indices: Iterable[int]) -> str:
        places = ((x.position(band.samples_ms[index]), base + (index + 0.5) * BAND_HEIGHT / count) for index in indices)
        return "".join(f"M{across:.1f} {down:.1f}h0" for across, down in places)

    parts = [
        f'<rect class="band" x="0" y="{base:.1f}" width="{width}" height="{BAND_HEIGHT}"/>',
        f'<text class="name" x="8" y="{base - 7:.1f}">{heading(band, width - 100)}</text>',
        f'<text class="name value" x="{width - 8}" y="{base - 7:.1f}" text-anchor="end">{band.median_ms:.1f} ms</text>',
        f'<path class="rings" d="{dots(band.outliers)}"/>',
        f'<path class="dots e{band.colour}" d="{dots(shown)}"/>',
        _tick("median", x.position(band.median_ms), base),
    ]
    if band.p90_ms is not None:
        parts.append(_tick("p90", x.position(band.p90_ms), base))
    return parts


def heading(band: Band, width_px: float) -> str:
    """Return number and name of an engine as text of at most ``width_px``, the middle left out where it is too long."""
    name, longest = band.label, int(width_px / NAME_CHARACTER_PX) - len(band.mark) - 2
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[-(longest - longest // 2 - 1) :]}"
    return escape(f"{band.mark}  {name}")


def _tick(kind: str, at: float, base: float) -> str:
    return f'<line class="{kind}" x1="{at:.1f}" y1="{base:.1f}" x2="{at:.1f}" y2="{base + BAND_HEIGHT:.1f}"/>'


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in x.ticks():
        at = x.position(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{y.stop}" x2="{at:.1f}" y2="{y.start}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{y.start + 17}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks():
        at = y.position(tick)
        parts.append(f'<line class="grid" x1="{x.start}" y1="{at:.1f}" x2="{x.stop}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{x.start - 7}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return parts


def _axis_titles(width: int, height: int, x_title: str, y_title: str) -> list[str]:
    middle = (height - 46) / 2
    return [
        f'<text class="title" x="{width / 2}" y="{height - 8}" text-anchor="middle">{x_title}</text>',
        f'<text class="title" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{y_title}</text>',
    ]


def _level_line(x: Axis, at: float, label: str) -> list[str]:
    return [
        f'<line class="level" x1="{x.start}" y1="{at:.1f}" x2="{x.stop}" y2="{at:.1f}"/>',
        f'<text class="hint" x="{x.stop}" y="{at - 6:.1f}" text-anchor="end">{label}</text>',
    ]


def _radius(memory_bytes: int | None, largest: int) -> float:
    if not memory_bytes:
        return SMALLEST_RADIUS
    return max(LARGEST_RADIUS * math.sqrt(memory_bytes / largest), SMALLEST_RADIUS)


def _disc(point: Point, disc: tuple[float, float, float]) -> str:
    x, y, radius = disc
    title = escape(f"{point.label}: {point.latency_ms:.1f} ms, {point.psnr_db:.2f} dB")
    return (
        f'<g class="{_class(point)}"><title>{title}</title>'
        f'<circle class="disc" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
        f'<circle class="core" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/></g>'
    )


def _free_spot(
    disc: tuple[float, float, float], taken: list[tuple[float, float]], size: tuple[int, int]
) -> tuple[float, float]:
    """Find a place for a badge beside its disc that no other badge covers."""
    x, y, radius = disc
    spots = [
        (x + math.cos(angle) * distance, y + math.sin(angle) * distance)
        for distance in (radius + 14, radius + 34, radius + 54)
        for angle in (math.radians(degrees) for degrees in (-60, -120, 60, 120, 0, 180, -90, 90))
    ]
    inside = [spot for spot in spots if 56 < spot[0] < size[0] - 12 and 12 < spot[1] < size[1] - 56]
    free = [spot for spot in inside if all(math.dist(spot, other) > 2 * BADGE_RADIUS + 2 for other in taken)]
    return (free or inside or spots)[0]


def _class(point: Point) -> str:
    return f"e{point.colour}" if point.on_front else f"e{point.colour} dominated"


def _badge(point: Point, spot: tuple[float, float], disc: tuple[float, float, float]) -> str:
    x, y = spot
    return (
        f'<g class="{_class(point)}">'
        f'<line class="leader" x1="{disc[0]:.1f}" y1="{disc[1]:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'
        f'<circle class="badge" cx="{x:.1f}" cy="{y:.1f}" r="{BADGE_RADIUS}"/>'
        f'<text class="mark" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{point.mark}</text></g>'
    )


def svg(width: int, height: int, description: str, parts: Sequence[str]) -> str:
    """Return a drawing; ``description`` says the same in words, to those who do not see it."""
    kind = "narrow" if width < NARROW_BELOW_PX else "wide"
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )
