"""Whether an engine's latencies can be trusted, and what disturbed them where they cannot.

Linux reports the other work of the machine during a round: processes, time stolen by a hypervisor, the clock.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from drc_deploy.bench.measure.latency import MAD_TO_STD, Latency, round_medians
from drc_deploy.proc_files import read_text

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
FEWEST_TICKS = 20
"""Below so many ticks of all cores together (a tick is 10 ms as a rule) the shares would be mostly rounding."""
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)
"""Columns of ``/proc/stat`` (proc_stat(5)); those of guests are counted in the first two already."""
_UTIME, _CSTIME = 11, 14
"""First and last of the columns of ``/proc/PID/stat``, after the name of the program, of the time that it and its
children took (proc_pid_stat(5)): another program may compute in a process of its own."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """One round. None where the system does not report it."""

    others_share: float | None
    """Part of the time of all cores that processes other than the engine's took, in 0..1."""
    steal_share: float | None
    """Part of the time of all cores that a hypervisor gave to other guests, in 0..1."""
    clock_mhz: float | None
    """Mean frequency of the cores at the end of the round."""


class _Ticks(NamedTuple):
    total: int
    busy: int
    steal: int
    own: int


class ConditionsWatch:
    """Watches the machine around the rounds of one engine's process.

    Attributes:
        rounds: What was seen, one for each round.
    """

    def __init__(self, pid: int, root: Path = Path("/")) -> None:
        self._pid, self._root = pid, root
        self.rounds: list[Conditions] = []

    @contextmanager
    def round(self) -> Iterator[None]:
        """Watch one round."""
        before = self._ticks()
        yield
        others, steal = _shares(before, self._ticks())
        self.rounds.append(Conditions(others, steal, clock_mhz(self._root)))

    def _ticks(self) -> _Ticks | None:
        machine = (read_text(self._root / "proc/stat") or "").split("\n", 1)[0].split()
        process = (read_text(self._root / f"proc/{self._pid}/stat") or "").rpartition(")")[2].split()
        if len(machine) <= _STEAL + 1 or len(process) <= _CSTIME:
            return None
        counts = [int(word) for word in machine[1 : _STEAL + 2]]
        idle = counts[_IDLE] + counts[_IOWAIT]
        busy = sum(counts) - idle - counts[_STEAL]
        own = sum(int(word) for word in process[_UTIME : _CSTIME + 1])
        return _Ticks(sum(counts), busy, counts[_STEAL], own)


def _shares(before: _Ticks | None, after: _Ticks | None) -> tuple[float | None, float | None]:
    """Return the shares of other processes and of the hypervisor."""
    if before is None or after is None or after.total - before.total < FEWEST_TICKS:
        return None, None
    total, busy, steal, own = (end - start for start, end in zip(before, after, strict=True))
    return min(max((busy - own) / total, 0.0), 1.0), steal / total


def clock_mhz(root: Path = Path("/")) -> float | None:
    """Return the mean frequency of all cores; None where the kernel does not set it, as in most virtual machines."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    values = [int(text) / 1000 for path in files if (text := read_text(path)) and text.isdigit()]
    return sum(values) / len(values) if values else None


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
