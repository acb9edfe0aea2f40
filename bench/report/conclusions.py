"""The conclusions of a report: its summary in one sentence, and its warnings."""

from collections.abc import Iterable, Sequence
from typing import Literal

from drc_deploy.bench.measure.latency import LatencyRatio, compare
from drc_deploy.bench.report.records import EngineResult, Report

NO_ERROR_DB = 200.0
"""Replaces an infinite PSNR in comparisons. No 8-bit image with an error reaches it."""
BUSY_LOAD = 0.5
"""Load per core above which the machine counts as busy."""
NO_BETTER = "No engine measured is more accurate or significantly faster."


def summarise(engines: Sequence[EngineResult]) -> str:
    """Return the result in a sentence: the fastest engine against the most accurate one."""
    if not engines:
        return "Nothing could be measured."
    others = comparable(engines)
    best, ranked = best_image(others), by_latency(others)
    where = f"At x{best.engine.scale}, " if len(others) < len(engines) else ""
    faster = next((engine for engine in ranked if _clearly_faster(engine, best)), None)
    slower = next((engine for engine in reversed(ranked) if _clearly_faster(best, engine)), None)
    if faster or slower:
        first, second = (faster, best) if faster else (best, slower or best)
        rest = [engine for engine in others if engine is not first]
        leads = all(psnr(first) > psnr(engine) and _clearly_faster(first, engine) for engine in rest)
        praise = "the fastest and the most accurate engine measured, " if leads else ""
        more = "" if faster or leads else f" {NO_BETTER}"
        more += " This is uncertain: see the warnings." if _unstable(first) or _unstable(second) else ""
        return f"{where}{_label(first, second)} is {praise}{_against(first, second)}: {_figures(first)}.{more}"
    if any(_compare(best, other).interval is None for other in others if other is not best):
        return (
            f"{where}{best.name}: {_figures(best)}. No engine measured is more accurate. "
            "Too few rounds were measured to compare the speed."
        )
    return f"{where}{best.name}: {_figures(best)}.{f' {NO_BETTER}' if len(others) > 1 else ''}"


def own_engines(engines: Sequence[EngineResult]) -> list[EngineResult]:
    """Leave out other programs. Each runs one of our networks and is compared with that engine only."""
    return [engine for engine in engines if engine.program is None]


def comparable(engines: Sequence[EngineResult]) -> list[EngineResult]:
    """Return the engines of the most common scale: figures of two scales do not compare."""
    scales = [engine.engine.scale for engine in engines]
    return [engine for engine in engines if engine.engine.scale == max(scales, key=scales.count)]


def shared_memory(engines: Sequence[EngineResult]) -> Literal["device", "host"] | None:
    """Return which memory is known of all ``engines``, the device's first; None where they cannot be compared."""
    if all(engine.peak_device_memory.value for engine in engines):
        return "device"
    return "host" if all(engine.peak_host_memory.value for engine in engines) else None


def memory_bytes(engine: EngineResult, kind: Literal["device", "host"] | None) -> int | None:
    """Return the peak of one kind of memory; None where it is unknown."""
    readings = {"device": engine.peak_device_memory, "host": engine.peak_host_memory}
    return readings[kind].value if kind else None


def _label(engine: EngineResult, other: EngineResult) -> str:
    """Name an engine, with its precision where the other has another one."""
    precision = engine.engine.precision
    return engine.name if precision == other.engine.precision else f"{engine.name} ({precision})"


def _against(engine: EngineResult, other: EngineResult) -> str:
    """Compare speed, memory and image: ``1.60x (1.55 to 1.66) as fast as b.onnx, with 0.84x its memory, -0.01 dB``."""
    found = _compare(engine, other)
    digits = 2 if found.speedup < 1.95 else 1
    between = f" ({found.interval[0]:.{digits}f} to {found.interval[1]:.{digits}f})" if found.interval else ""
    words = f"{found.speedup:.{digits}f}x{between} as fast as {_label(other, engine)}"
    kind = shared_memory([engine, other])
    mine, theirs = memory_bytes(engine, kind), memory_bytes(other, kind)
    if mine and theirs:
        words += f", with {mine / theirs:.2f}x its {kind} memory"
    if engine.quality.psnr_y is not None and other.quality.psnr_y is not None:
        words += f", {psnr(engine) - psnr(other):+.2f} dB"
    return words


def comparisons(engines: Sequence[EngineResult]) -> tuple[LatencyRatio, ...]:
    """Compare each engine with the one that has the best image at its scale."""
    found = []
    for scale in sorted({engine.engine.scale for engine in engines}):
        group = [engine for engine in engines if engine.engine.scale == scale]
        best = best_image(group)
        found += [_compare(engine, best) for engine in by_latency(group) if engine is not best]
    return tuple(found)


def _compare(engine: EngineResult, other: EngineResult) -> LatencyRatio:
    return compare((engine.name, engine.latency), (other.name, other.latency))


def _clearly_faster(engine: EngineResult, other: EngineResult) -> bool:
    """Return whether ``engine`` was faster by more than the noise between the rounds and between two processes."""
    found = _compare(engine, other)
    return found.different and found.speedup > 1


def find_warnings(engines: Sequence[EngineResult], load_average: float | None, cores: int) -> tuple[str, ...]:
    """Return a sentence for everything that makes the figures uncertain."""
    warnings = []
    if load_average is not None and load_average > BUSY_LOAD * cores:
        warnings.append(
            f"The machine was busy when the measurement began (load {load_average:.1f} on {cores} cores). "
            "The latencies are longer and less certain than on an idle machine."
        )
    for engine in engines:
        if reasons := _unstable(engine):
            warnings.append(f"The latency of {engine.name} is uncertain: {'; '.join(reasons)}.")
    if warnings:
        warnings.append("Measure again on a quiet machine, or longer (--min-seconds).")
    return tuple(warnings)


def _unstable(engine: EngineResult) -> Sequence[str]:
    """Return why the latency of an engine is uncertain."""
    measured = engine.measurement or engine.program
    return measured.stability.reasons if measured else ()


def psnr(engine: EngineResult) -> float:
    """Return an engine's PSNR for comparisons, to the hundredth that is shown; no error counts as ``NO_ERROR_DB``."""
    return NO_ERROR_DB if engine.quality.psnr_y is None else round(engine.quality.psnr_y, 2)


def gain_over_bicubic(report: Report, engine: EngineResult) -> float | None:
    """Return an engine's PSNR above bicubic upscaling in dB; None when one of the two is infinite."""
    bicubic = report.baseline(engine.engine.scale).psnr_y
    if bicubic is None or engine.quality.psnr_y is None:
        return None
    return engine.quality.psnr_y - bicubic


def by_latency(engines: Iterable[EngineResult]) -> list[EngineResult]:
    """Return the engines from the fastest to the slowest, and after them those that are timed otherwise."""
    return sorted(engines, key=lambda engine: (timed_otherwise(engine) is not None, engine.latency.median_ms))


def timed_otherwise(engine: EngineResult) -> str | None:
    """Return what a latency sample of another program measures; None where it is one image from memory to memory.

    A share of several images in flight, for example, cannot be compared with the latency of one image.
    """
    return engine.program.timed if engine.program else None


def best_image(engines: Iterable[EngineResult]) -> EngineResult:
    """Return the engine with the highest PSNR; the fastest where several have it."""
    return max(engines, key=lambda engine: (psnr(engine), -engine.latency.median_ms))


def _figures(engine: EngineResult) -> str:
    quality = engine.quality.psnr_y
    value = "no error at all" if quality is None else f"{quality:.2f} dB"
    return f"{engine.latency.median_ms:.1f} ms per image, {value}"
