"""Power, temperature and clocks over a run, with the rounds of each engine shaded, as SVG text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drc_deploy.bench.machine.telemetry.trace import Window
from drc_deploy.bench.show.axes import Axis, fit_axis
from drc_deploy.bench.show.charts import svg

PANEL_PX, GAP_PX, FOOT_PX, LEFT_PX = 120, 34, 42, 46
MAX_POINTS = 400
"""Points drawn for one line; where there are more, each is the mean of its neighbours."""
MARK_WIDTH_PX = 11
"""Rounds that are drawn less wide than this bear no number."""

Point = tuple[float, float | None]
"""Seconds since the start of the trace, and a value; None is a gap."""


@dataclass(frozen=True, slots=True)
class Line:
    """One sensor."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """The sensors of one kind, over one axis."""

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Shade:
    """The rounds of one engine."""

    mark: str
    colour: int
    windows: Sequence[Window]


def traces(panels: Sequence[Panel], shades: Sequence[Shade], width: int) -> str:
    """Draw the panels one below the other, over the same seconds."""
    height = len(panels) * (PANEL_PX + GAP_PX) + FOOT_PX
    ends = [at for panel in panels for line in panel.lines for at in (line.points[0][0], line.points[-1][0])]
    x = Axis(min(ends), max(ends) if max(ends) > min(ends) else min(ends) + 1, LEFT_PX, width - 20)
    parts = []
    for index, panel in enumerate(panels):
        top = (index + 1) * GAP_PX + index * PANEL_PX
        parts += [*_shading(shades, x, top, marked=index == 0), *_panel(panel, x, top)]
    bottom = height - FOOT_PX
    for tick in x.ticks():
        parts.append(
            f'<text class="tick" x="{x.position(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text class="title" x="{width / 2}" y="{height - 6}" text-anchor="middle">seconds</text>')
    told = [f"{line.name}: {_range(line)}" for panel in panels for line in panel.lines]
    return svg(width, height, f"What the machine told over the run. {'; '.join(told)}", parts)


def _shading(shades: Sequence[Shade], x: Axis, top: int, *, marked: bool) -> Iterator[str]:
    for shade in shades:
        for start, end in shade.windows:
            left, right = (min(max(x.position(at), x.start), x.stop) for at in (start, end))
            place = f'x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{PANEL_PX}"'
            yield f'<rect class="shade e{shade.colour}" {place}/>'
            if marked and right - left >= MARK_WIDTH_PX:
                middle = (left + right) / 2
                yield f'<text class="tick" x="{middle:.1f}" y="{top + 14}" text-anchor="middle">{shade.mark}</text>'


def _panel(panel: Panel, x: Axis, top: int) -> Iterator[str]:
    values = [value for line in panel.lines for _, value in line.points if value is not None]
    y = fit_axis(values, top + PANEL_PX, top)
    for tick in y.ticks():
        at = y.position(tick)
        yield f'<line class="grid" x1="{x.start}" y1="{at:.1f}" x2="{x.stop}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="{x.start - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
    yield f'<text class="name" x="{x.start}" y="{top - 8}">{panel.title}</text>'
    for number, line in enumerate(panel.lines):
        yield f'<path class="trace d{number}" d="{_path(line.points, x, y)}"/>'


def _path(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Return the line through the points, interrupted where a value is missing."""
    thin = thinned(points)
    path, broken = "", True
    for at, value in thin:
        if value is not None:
            path += f"{'M' if broken else 'L'}{x.position(at):.1f} {y.position(value):.1f}"
        broken = value is None
    return path


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most ``MAX_POINTS`` points, each the mean of its neighbours; a group without any value is a gap."""
    size = -(-len(points) // MAX_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean([at for at, _ in group]), _mean_of_known(group)) for group in groups]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_of_known(points: Sequence[Point]) -> float | None:
    known = [value for _, value in points if value is not None]
    return _mean(known) if known else None


def rates(points: Sequence[Point]) -> list[Point]:
    """Return the power between the readings of an energy counter in joules; where it falls, it began anew: a gap."""
    return [
        ((before[0] + after[0]) / 2, _rate(before, after)) for before, after in pairwise(points) if after[0] > before[0]
    ]


def _rate(before: Point, after: Point) -> float | None:
    if before[1] is None or after[1] is None or after[1] < before[1]:
        return None
    return (after[1] - before[1]) / (after[0] - before[0])


def _range(line: Line) -> str:
    values = [value for _, value in line.points if value is not None]
    return f"{min(values):.4g} to {max(values):.4g}"
