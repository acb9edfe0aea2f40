"""Limits for CI: how much slower, larger or worse an engine may become."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from drc_deploy.bench.comparison.compare import SAME_SHARE, EngineChange, ReportComparison
from drc_deploy.bench.comparison.conditions import PIXELS
from drc_deploy.bench.report.records import Report
from drc_deploy.errors import UsageError

Limits: TypeAlias = Mapping[str, float]
"""By figure: the part by which ``latency`` and ``memory`` may grow, and the dB by which ``psnr`` may fall."""

MEMORY_NOISE = 0.03
"""Peaks of two runs of one engine differ by less than this part: 1.0 % in six runs."""
PSNR_NOISE_DB = 0.005
"""Less than the hundredth of a dB that reports show."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One limit that is crossed, or that cannot be checked."""

    engine: str
    figure: str
    reason: str


def parse_limits(texts: Sequence[str]) -> Limits:
    """Read limits such as ``5%`` (of latency), ``latency=5%``, ``memory=10%`` and ``psnr=0.05`` (dB).

    Raises:
        UsageError: a text is none of these, a figure has two limits, or the one of latency is below ``SAME_SHARE``.
    """
    limits: dict[str, float] = {}
    for text in texts:
        figure, limit = _parse_limit(text)
        if figure in limits:
            raise UsageError(f"{figure} has two limits.", "Use --fail-above once for each figure.")
        limits[figure] = limit
    if limits.get("latency", SAME_SHARE) < SAME_SHARE:
        raise UsageError(
            f"a limit of latency below {SAME_SHARE:.0%} cannot be checked: two runs of one engine differ by that much.",
            f"Use {SAME_SHARE:.0%} or more.",
        )
    return limits


def _parse_limit(text: str) -> tuple[str, float]:
    match = re.fullmatch(r"(?:(latency|memory|psnr)=)?([0-9]{1,6}(?:\.[0-9]{1,6})?) *(%|dB)?", text, re.ASCII)
    figure = (match[1] or "latency") if match else ""
    if match is None or match[3] not in ((None, "dB") if figure == "psnr" else ("%",)):
        raise UsageError(f"{text!r} is not a limit.", "Use one such as 5%, latency=5%, memory=10% or psnr=0.05dB.")
    return figure, float(match[2]) / (1 if figure == "psnr" else 100)


def find_crossings(comparison: ReportComparison, after: Report, limits: Limits) -> tuple[Crossing, ...]:
    """Return every limit that is crossed; ``after`` lists the engines that have failed since."""
    lost = {item.name: f"{item.kind}: {item.reason}" for item in after.not_measured}
    crossings = [
        Crossing(name, figure, f"{name} was measured before, but not now ({lost[name]})")
        for name in comparison.only_before
        if name in lost
        for figure in limits
    ]
    pixels_differ = any(item.what.startswith(PIXELS) for item in comparison.differences)
    for engine in comparison.engines:
        for figure, limit in limits.items():
            reason = CHECKS[figure](engine, limit)
            if figure == "psnr" and pixels_differ:
                reason = "the images are not the same"
            if reason:
                crossings.append(Crossing(engine.name, figure, f"{figure} of {engine.name}: {reason}"))
    return tuple(crossings)


def _latency(engine: EngineChange, limit: float) -> str:
    latency = engine.latency
    if latency.ratio <= 1 + limit:
        return ""
    if latency.interval is None:
        return f"{latency.ratio:.3f} times as long, with too few rounds to separate it from noise"
    if not latency.significant or engine.result == "too much variation":
        return ""
    low, high = latency.interval
    sure = "so is the whole interval" if low > 1 + limit else "the interval excludes 1, but begins below the limit"
    return f"{latency.ratio:.3f} times as long ({low:.3f} to {high:.3f}), above the limit of {limit:.1%}; {sure}"


def _memory(engine: EngineChange, limit: float) -> str:
    """Check the memory of the host and of the device, each where both reports have it."""
    changes = {"host": engine.peak_host_memory_bytes, "device": engine.peak_device_memory_bytes}
    growths = {where: change.growth for where, change in changes.items() if change.growth is not None}
    if not growths:
        return "not measured in both reports"
    limit = max(limit, MEMORY_NOISE)
    grown = {where: growth for where, growth in growths.items() if growth > limit}
    return ", ".join(f"{growth:.1%} more on the {where}, more than {limit:.1%}" for where, growth in grown.items())


def _psnr(engine: EngineChange, limit: float) -> str:
    before, after = engine.psnr_y_db.before, engine.psnr_y_db.after
    if after is None:
        return ""
    if before is None:
        return f"{after:.2f} dB, where the images had no error at all"
    loss = before - after
    return f"{loss:.3f} dB less, more than {limit:g} dB" if loss > max(limit, PSNR_NOISE_DB) else ""


CHECKS: dict[str, Callable[[EngineChange, float], str]] = {"latency": _latency, "memory": _memory, "psnr": _psnr}
"""Each returns how an engine crosses a limit, nothing where it does not."""
