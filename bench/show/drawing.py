"""Axes of charts, and SVG elements as text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

LOG_FROM_RATIO = 8.0
"""Values that span more than this factor get a logarithmic axis."""
NARROW_BELOW_PX = 600
"""A chart less wide than this is the one for phones; the style sheet shows one of the two."""
FOOT_PX = 42
"""Height of the numbers and the title below a horizontal axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps ``low``..``high`` to the positions ``start``..``stop``, which may run backwards."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def position(self, value: float) -> float:
        """Return the position of ``value``."""
        low, high = self._scale(self.low), self._scale(self.high)
        return self.start + (self._scale(value) - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return about five values within the axis that are round: 1, 2 or 5 times a power of ten, or multiples."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            return [value for value in values if self.low <= value <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(index * step, 10) for index in range(first, last + 1)]

    def _scale(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def fit_axis(values: Sequence[float], start: float, stop: float, *, may_be_log: bool = False) -> Axis:
    """Return an axis that holds all ``values``, with a margin on both sides."""
    low, high = min(values), max(values)
    if may_be_log and low > 0 and high / low > LOG_FROM_RATIO:
        return Axis(low / 1.3, high * 1.3, start, stop, logarithmic=True)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - margin, high + margin, start, stop)


def shape(tag: str, kind: str, words: str | None = None, **attributes: float | str) -> str:
    """Return an SVG element of the class ``kind``; an underscore in an attribute's name becomes a hyphen."""
    element = f'<{tag} class="{kind}"'
    for name, value in attributes.items():
        element += f' {name.replace("_", "-")}="{escape(value) if isinstance(value, str) else f"{value:.1f}"}"'
    return element + ("/>" if words is None else f">{escape(words)}</{tag}>")


def line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a straight line."""
    return shape("line", kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    """Return one line of text; ``anchor`` is the part of it that lies at ``x``: start, middle or end."""
    return shape("text", kind, words, x=x, y=y, text_anchor=anchor)


def horizontal_axis(x: Axis, top: float, bottom: float, title: str, unit: str = "") -> Iterator[str]:
    """Draw the grid from ``top`` to ``bottom``, and below it the numbers and the title."""
    for tick in x.ticks():
        at = x.position(tick)
        yield line("grid", (at, top), (at, bottom))
        yield text("tick", at, bottom + 17, f"{tick:g}{unit}", "middle")
    yield text("title", (x.start + x.stop) / 2, bottom + 36, title, "middle")


def vertical_axis(y: Axis, x: Axis) -> Iterator[str]:
    """Draw the grid along ``x``, and the numbers on its left."""
    for tick in y.ticks():
        at = y.position(tick)
        yield line("grid", (x.start, at), (x.stop, at))
        yield text("tick", x.start - 6, at + 4, f"{tick:g}", "end")


def svg(width: int, height: int, description: str, parts: Sequence[str]) -> str:
    """Return a drawing; ``description`` says the same in words for people who do not see it."""
    kind = "narrow" if width < NARROW_BELOW_PX else "wide"
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )
