"""Devices that take known times on a clock of their own, with the noise that real machines have."""

from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from drc_deploy.bench.measure.latency import Latency, summarise
from drc_deploy.bench.measure.timing import TimingBudget, time_runs


class FakeDevice:
    """Takes the next of given times at each call, and moves its clock by it."""

    def __init__(self, latencies_ms: Iterator[float]) -> None:
        self._latencies_ms, self._now_ns = latencies_ms, 0

    def clock(self) -> int:
        return self._now_ns

    def run(self) -> None:
        self._now_ns += round(next(self._latencies_ms) * 1e6)


def measured(rounds_ms: list[list[float]]) -> Latency:
    """Return what the harness makes of a device that takes these times."""
    device = FakeDevice(iter([ms for round_ms in rounds_ms for ms in round_ms]))
    return summarise([time_runs(device.run, TimingBudget(len(row), 0.0), device.clock).samples_ms for row in rounds_ms])


class Machine:
    """Runs engines in rounds; noise is what a quiet desktop has, times ``loudness``.

    Within a round the runs of an engine are an AR(1) process with a correlation of 0.6 and a deviation of 1 %; every
    engine is off by 0.5 % in every round, each for itself. What is common to all engines: a random walk by 1 % a round,
    and a pace that slows by ``drift`` from the beginning to the end, also within a round.
    """

    def __init__(
        self, seed: int, *, loudness: float = 1.0, drift: float = 0.10, rounds: int = 8, runs: int = 6
    ) -> None:
        self._noise = np.random.default_rng(seed)
        self._loudness, self._drift, self._rounds, self._runs = loudness, drift, rounds, runs

    def run(self, medians_ms: tuple[float, ...], *, alternating: bool = True) -> list[Latency]:
        """Let engines take turns, every other round in the reverse order."""
        found: list[list[list[float]]] = [[] for _ in medians_ms]
        turns, done = self._rounds * len(medians_ms), 0
        for number, common in enumerate(accumulate(self._noise.normal(0, 0.01, self._rounds))):
            order = list(range(len(medians_ms)))
            for index in order[::-1] if alternating and number % 2 else order:
                pace = np.exp(common) * (1 + self._drift * done / turns)
                found[index].append([float(medians_ms[index] * pace * factor) for factor in self._round()])
                done += 1
        return [measured(rounds) for rounds in found]

    def _round(self) -> Iterator[float]:
        shift = self._noise.normal(0, 0.005)
        deviation = self._noise.normal()
        for _ in range(self._runs):
            yield float(np.exp(self._loudness * (shift + 0.01 * deviation)))
            deviation = 0.6 * deviation + 0.8 * self._noise.normal()
