"""Timing several pieces of work in turns, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping


def median_ms(
    work: Mapping[str, Callable[[], object]], *, turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median time of each piece of work in milliseconds by ``clock``, over ``turns`` after a warm-up."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns + 1):
        for name, run in work.items():
            start = clock()
            run()
            samples[name].append(1000 * (clock() - start))
    return {name: statistics.median(times[1:]) for name, times in samples.items()}
