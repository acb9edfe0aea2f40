"""Whether an engine's latencies can be trusted, and what disturbed them where they cannot."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drc_deploy.bench.measure.disturbances import Conditions
from drc_deploy.bench.measure.latency import MAD_TO_STD, Latency, round_medians

OTHERS_LIMIT = 0.10
"""Share of all cores' time in other processes, in the median round."""
STEAL_LIMIT = 0.02
CLOCK_FALL = 0.05
"""By which part a clock may fall from the first rounds to the last."""
DRIFT_ROUNDS = 3
"""With fewer there is no first and last third with something between them: a step looks like a drift."""
DRIFT_LIMIT = 0.05
"""By which part the latency may change from the first third of the rounds to the last."""
SPREAD_LIMIT = 0.10
"""Deviation of the runs, by their median absolute deviation, as a part of the median."""
OUTLIER_LIMIT = 0.05
"""Share of the runs that may be outliers."""


@dataclass(frozen=True, slots=True)
class Stability:
    """Whether one engine's latencies are stable, and what that rests on."""

    verdict: Literal["stable", "noisy", "unknown"]
    """``unknown``: nothing disturbed it that was seen, but the rounds are too few to see a drift."""
    reasons: tuple[str, ...]
    """What disturbed the measurement; empty when it is not noisy."""
    drift: float | None
    """Change of the latency from the first third of the rounds to the last, as a part of the first. None below
    ``DRIFT_ROUNDS`` rounds, with its reason in ``not_seen``."""
    spread: float
    """Deviation of the runs by their median absolute deviation, as a part of the median."""
    autocorrelation: float | None
    """Of neighbouring runs of a round, -1..1: how far they are from independent. None with too few runs."""
    conditions: tuple[Conditions, ...]
    """One for each round."""
    not_seen: tuple[str, ...]
    """What could have disturbed the measurement and could not be watched here, with the reason."""


def judge(latency: Latency, conditions: Sequence[Conditions], *, settled: bool) -> Stability:
    """Judge latencies by themselves and by the other work of the machine during them.

    Args:
        latency: of one engine.
        conditions: one for each round.
        settled: whether warm-up ended with a stable latency.
    """
    medians, spread = round_medians(latency), _spread(latency)
    drift = _change(medians) if len(medians) >= DRIFT_ROUNDS else None
    reasons = [*_of_conditions(conditions, drift), *_of_latency(latency, drift, spread)]
    if not settled:
        reasons.append("its pace was still changing when the time for warm-up was over")
    return Stability(
        verdict="noisy" if reasons else "unknown" if drift is None else "stable",
        reasons=tuple(reasons),
        drift=drift,
        spread=spread,
        autocorrelation=_autocorrelation(latency.rounds_ms),
        conditions=tuple(conditions),
        not_seen=tuple(_not_seen(conditions, drift)),
    )


def _of_conditions(conditions: Sequence[Conditions], drift: float | None) -> Iterable[str]:
    others = _median(conditions, lambda item: item.others_share)
    if others is not None and others > OTHERS_LIMIT:
        yield f"other processes took {others:.0%} of the processors"
    steal = _median(conditions, lambda item: item.steal_share)
    if steal is not None and steal > STEAL_LIMIT:
        yield f"the hypervisor gave {steal:.0%} of the processors to others"
    clocks = [item.clock_mhz for item in conditions if item.clock_mhz is not None]
    if len(clocks) == len(conditions) > 1 and _change(clocks) < -CLOCK_FALL:
        slower = " and the latency rose with it: it was throttled" if drift and drift > CLOCK_FALL else ""
        yield f"the clock fell by {-_change(clocks):.0%} (to {clocks[-1]:.0f} MHz){slower}"


def _of_latency(latency: Latency, drift: float | None, spread: float) -> Iterable[str]:
    # A change between the thirds that is no larger than between neighbouring rounds is no drift but spread.
    if drift and abs(drift) > DRIFT_LIMIT and abs(drift) > 2 * _step(round_medians(latency)):
        direction = "rose, as when a machine throttles," if drift > 0 else "fell"
        yield f"the latency {direction} by {abs(drift):.0%} over the rounds"
    if spread > SPREAD_LIMIT:
        yield f"the runs spread by {spread:.0%} of the median"
    outliers = len(latency.outliers) / latency.runs
    if outliers > OUTLIER_LIMIT:
        yield f"{outliers:.0%} of the runs are outliers"


def _not_seen(conditions: Sequence[Conditions], drift: float | None) -> Iterable[str]:
    if drift is None:
        yield f"drift: that takes {DRIFT_ROUNDS} rounds at least"
    if _median(conditions, lambda item: item.others_share) is None:
        yield "other processes: there is no /proc/stat, or the rounds were too short for it"
    if all(item.clock_mhz is None for item in conditions):
        yield "the processor's clock: the kernel does not report it"


def _median(conditions: Sequence[Conditions], value: Callable[[Conditions], float | None]) -> float | None:
    known = [number for item in conditions if (number := value(item)) is not None]
    return float(np.median(known)) if known else None


def _change(values: Sequence[float]) -> float:
    """Return the change from the median of the first third to that of the last, as a part of the first."""
    third = max(len(values) // 3, 1)
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    return last / first - 1


def _step(values: Sequence[float]) -> float:
    """Return the median change from one round to the next, as a part of the median."""
    return float(np.median(np.abs(np.diff(values))) / np.median(values)) if len(values) > 1 else 0.0


def _spread(latency: Latency) -> float:
    samples = np.concatenate([np.asarray(round_ms, np.float64) for round_ms in latency.rounds_ms])
    return float(MAD_TO_STD * np.median(np.abs(samples - latency.median_ms)) / latency.median_ms)


def _autocorrelation(rounds_ms: Sequence[Sequence[float]]) -> float | None:
    """Return the correlation of each run with the next of its round, around the mean of all runs."""
    mean = float(np.mean([sample for round_ms in rounds_ms for sample in round_ms]))
    deviations = [np.asarray(round_ms, np.float64) - mean for round_ms in rounds_ms]
    variance = float(np.mean(np.concatenate(deviations) ** 2))
    products = np.concatenate([item[:-1] * item[1:] for item in deviations])
    return float(products.mean() / variance) if products.size >= len(rounds_ms) and variance > 0 else None
