"""What a report says in words: its one sentence, and what its reader must beware of."""

from collections.abc import Iterable, Sequence

from drc_deploy.bench.report import EngineResult, Report

TIE = 0.05
"""Latencies that differ by less than this part are the same: so much changes between two runs of this program."""
NO_ERROR_DB = 200.0
"""Stands for an infinite PSNR in comparisons: more than any 8-bit image with an error can have."""
BUSY_LOAD = 0.5
"""Load per core from which the machine was doing something else."""
UNSTABLE_SPREAD = 0.10
"""A standard deviation above this part of the mean means that something else used the machine."""


def summarise(engines: Sequence[EngineResult]) -> str:
    """Give the result in one sentence: the fastest engine against the one with the best image."""
    if not engines:
        return "Nothing could be measured."
    scale = max({engine.engine.scale for engine in engines}, key=lambda s: _count(engines, s))
    rivals = [engine for engine in engines if engine.engine.scale == scale]
    best, fastest, slowest = best_image(rivals), by_latency(rivals)[0], by_latency(rivals)[-1]
    ratio = best.latency.median_ms / fastest.latency.median_ms
    if ratio >= 1 + TIE:
        change = psnr(fastest) - psnr(best)
        return f"{fastest.name} is {_times(ratio)} faster than {best.name} at {change:+.2f} dB: {_figures(fastest)}."
    ratio = slowest.latency.median_ms / best.latency.median_ms
    if ratio >= 1 + TIE:
        return f"No engine beats {best.name}, {_times(ratio)} as fast as {slowest.name}: {_figures(best)}."
    return f"{best.name} has the best image and no engine is clearly faster: {_figures(best)}."


def find_warnings(engines: Sequence[EngineResult], load_average: float | None, cores: int) -> tuple[str, ...]:
    """Say what makes the figures less than certain."""
    warnings = []
    if load_average is not None and load_average > BUSY_LOAD * cores:
        warnings.append(
            f"The machine was busy when the measurement began (load {load_average:.1f} on {cores} cores): "
            "the latencies are larger and less certain than on an idle one."
        )
    unsettled = [engine.name for engine in engines if not engine.warm_up.settled]
    if unsettled:
        warnings.append(f"Still changing pace when the time for warm-up was over: {', '.join(unsettled)}.")
    unstable = [f"{engine.name} ({_spread(engine):.0%})" for engine in engines if _spread(engine) > UNSTABLE_SPREAD]
    if unstable:
        warnings.append(
            f"The standard deviation is a large part of the mean: {', '.join(unstable)}. "
            "Measure again on a quiet machine, or longer (--min-seconds)."
        )
    return tuple(warnings)


def psnr(engine: EngineResult) -> float:
    """Give an engine's PSNR to compare, to the hundredth that is shown; images without any error count as best."""
    return NO_ERROR_DB if engine.quality.psnr_y is None else round(engine.quality.psnr_y, 2)


def gain_over_bicubic(report: Report, engine: EngineResult) -> float | None:
    """Give by how many dB an engine beats bicubic upscaling; None when one of the two is infinite."""
    bicubic = report.baseline(engine.engine.scale).psnr_y
    if bicubic is None or engine.quality.psnr_y is None:
        return None
    return engine.quality.psnr_y - bicubic


def by_latency(engines: Iterable[EngineResult]) -> list[EngineResult]:
    """Give the engines from the fastest to the slowest."""
    return sorted(engines, key=lambda engine: engine.latency.median_ms)


def best_image(engines: Iterable[EngineResult]) -> EngineResult:
    """Give the engine with the highest PSNR; the fastest where several have it."""
    return max(engines, key=lambda engine: (psnr(engine), -engine.latency.median_ms))


def _spread(engine: EngineResult) -> float:
    """Give the standard deviation of the latency as a part of its mean."""
    return engine.latency.std_ms / engine.latency.mean_ms


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 1.95 else f"{ratio:.1f}x"


def _count(engines: Sequence[EngineResult], scale: int) -> int:
    return sum(engine.engine.scale == scale for engine in engines)


def _figures(engine: EngineResult) -> str:
    quality = engine.quality.psnr_y
    value = "no error at all" if quality is None else f"{quality:.2f} dB"
    return f"{engine.latency.median_ms:.1f} ms an image, {value}"
