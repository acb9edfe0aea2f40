"""The empirical distribution of each engine's latency, as multiples of its own median, as SVG text."""

import math
from collections.abc import Sequence

from drc_deploy.bench.show.axes import Axis, fit_axis
from drc_deploy.bench.show.charts import Band, heading, svg

PITCH, HEIGHT = 104.0, 62.0
LARGEST_RATIO = 2.0
"""Where the axis ends, at the latest; slower runs are counted in words."""
MAX_STEPS = 300
"""Steps drawn for one engine, evenly thinned where there are more."""
LEFT_PX = 46


def distributions(bands: Sequence[Band], width: int) -> str:
    """Draw one curve for each engine below the other, over the same axis."""
    ratios = [sorted(sample / band.median_ms for sample in band.samples_ms) for band in bands]
    x = fit_axis([min(value, LARGEST_RATIO) for values in ratios for value in values], LEFT_PX, width - 8)
    height = int(PITCH * len(bands) + 40)
    parts = []
    for tick in x.ticks():
        at = x.position(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{height - 40}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{height - 22}" text-anchor="middle">{tick:g}x</text>')
    parts.append(f'<text class="title" x="{width / 2}" y="{height - 4}" text-anchor="middle">times the median</text>')
    for index, (band, values) in enumerate(zip(bands, ratios, strict=True)):
        parts += _row(band, values, x, Axis(0.0, 1.0, PITCH * (index + 1) - 4, PITCH * (index + 1) - 4 - HEIGHT))
    told = [f"{band.label}: {_spread(values)}" for band, values in zip(bands, ratios, strict=True)]
    return svg(width, height, f"Distribution of the latencies. {'; '.join(told)}", parts)


def _row(band: Band, ratios: Sequence[float], x: Axis, y: Axis) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 0.9, 1.0):
        at = y.position(share)
        parts.append(f'<line class="grid" x1="{x.start}" y1="{at:.1f}" x2="{x.stop}" y2="{at:.1f}"/>')
        if share not in (0.0, 1.0):
            parts.append(f'<text class="tick" x="{x.start - 6}" y="{at + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    top = y.stop - 8
    beyond = sum(ratio > LARGEST_RATIO for ratio in ratios)
    told = f"{beyond} of {len(ratios)} runs beyond {LARGEST_RATIO:g}x" if beyond else f"{len(ratios)} runs"
    curve = _steps(ratios, x, y)
    parts += [
        f'<text class="name" x="8" y="{top - 14:.1f}">{heading(band, x.stop)}</text>',
        f'<text class="hint" x="8" y="{top + 2:.1f}">{told}</text>',
        f'<path class="area e{band.colour}" d="{curve}V{y.start:.1f}Z"/>',
        f'<path class="curve e{band.colour}" d="{curve}"/>',
    ]
    return parts


def _steps(ratios: Sequence[float], x: Axis, y: Axis) -> str:
    """Return the curve that rises by its part at each run, up to the end of the axis."""
    every = math.ceil(len(ratios) / MAX_STEPS)
    counts = [*range(1, len(ratios), every), len(ratios)]
    path = f"M{x.start:.1f} {y.position(0):.1f}"
    for count in counts:
        if ratios[count - 1] > LARGEST_RATIO:
            break
        path += f"H{x.position(ratios[count - 1]):.1f}V{y.position(count / len(ratios)):.1f}"
    return f"{path}H{x.stop:.1f}"


def _spread(ratios: Sequence[float]) -> str:
    return f"{ratios[0]:.2f} to {ratios[-1]:.2f} times the median"
