"""Timing several pieces of work in turns, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping


def median_ms(
    work: Mapping[str, Callable[[], object]], *, turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median time of each piece of work in milliseconds by ``clock``, over ``turns`` after a warm-up."""
    return {name: statistics.median(times) for name, times in _times_ms(work, turns, clock).items()}


def ratios_text(
    work: Mapping[str, Callable[[], object]], *, turns: int, clock: Callable[[], float] = time.perf_counter
) -> str:
    """Return medians, and the time of each piece of work in parts of the first one's.

    The ratio is the median of the turns' own ratios; its spread are their quartiles.
    """
    samples = _times_ms(work, turns, clock)
    name, first = next(iter(samples.items()))
    parts = [f"{name} {statistics.median(first):.1f} ms"]
    for name, times in list(samples.items())[1:]:
        low, middle, high = statistics.quantiles([b / a for a, b in zip(first, times, strict=True)], n=4)
        parts.append(f"{name} {statistics.median(times):.1f} ms, {middle:.2f} ({low:.2f} to {high:.2f})")
    return "; ".join(parts)


def _times_ms(
    work: Mapping[str, Callable[[], object]], turns: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns + 1):
        for name, run in work.items():
            start = clock()
            run()
            samples[name].append(1000 * (clock() - start))
    return {name: times[1:] for name, times in samples.items()}
