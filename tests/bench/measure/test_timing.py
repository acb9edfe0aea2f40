import gc
import itertools

import pytest

from drc_deploy.bench.measure.latency import summarise
from drc_deploy.bench.measure.timing import WARM_UP_LIMIT_S, TimingBudget, calls_for, time_runs, warm_up
from tests.bench.measure.simulated import FakeDevice


def test_samples_are_exactly_what_the_device_took() -> None:
    device = FakeDevice(iter([3.0, 1.0, 2.5]))
    assert time_runs(device.run, TimingBudget(3, 0.0), device.clock).samples_ms == (3.0, 1.0, 2.5)


def test_percentiles_of_a_device_of_known_distribution_are_its_own() -> None:
    device = FakeDevice(1.0 + (index * 7 % 1000) / 1000 for index in range(1000))  # uniform on [1, 2)
    latency = summarise([time_runs(device.run, TimingBudget(1000, 0.0), device.clock).samples_ms])
    assert latency.median_ms == pytest.approx(1.4995)
    assert latency.p90_ms == pytest.approx(1.8991)
    assert latency.p99_ms == pytest.approx(1.98901)


@pytest.mark.parametrize(("latency_ms", "runs"), [(10.0, 10), (90.0, 3)])
def test_both_the_runs_and_the_time_must_be_reached(latency_ms: float, runs: int) -> None:
    device = FakeDevice(itertools.repeat(latency_ms))
    assert len(time_runs(device.run, TimingBudget(3, 0.1), device.clock).samples_ms) == runs


def test_warm_up_ends_when_the_latency_is_stable() -> None:
    device = FakeDevice(itertools.chain([100.0, 40.0, 20.0], itertools.repeat(10.0)))
    warmed = warm_up(device.run, device.clock)
    assert warmed.settled
    assert warmed.samples_ms == (100.0, 40.0, 20.0, 10.0, 10.0, 10.0, 10.0, 10.0)


def test_warm_up_that_never_settles_ends_and_says_so() -> None:
    device = FakeDevice(1000.0 * 1.2**index for index in range(100))
    warmed = warm_up(device.run, device.clock)
    assert not warmed.settled
    assert sum(warmed.samples_ms[:-1]) <= WARM_UP_LIMIT_S * 1000


def test_garbage_collection_is_off_while_timing_and_on_again_afterwards() -> None:
    seen: list[bool] = []
    time_runs(lambda: seen.append(gc.isenabled()), TimingBudget(2, 0.0))
    assert seen == [False, False]
    assert gc.isenabled()


def test_fast_calls_are_timed_together_so_that_the_clock_does_not_matter() -> None:
    class CoarseClock:
        """Reading it takes 100 ns, and it moves in steps of a microsecond."""

        now_ns = 0

        def __call__(self) -> int:
            self.now_ns += 100
            return self.now_ns // 1000 * 1000

    assert calls_for(0.004, CoarseClock()) == 250  # 1 ms: a thousand steps
    assert calls_for(2.0, CoarseClock()) == 1


def test_a_run_of_several_calls_is_their_mean_and_gives_no_tail() -> None:
    device = FakeDevice(itertools.cycle([1.0, 3.0]))
    timed = time_runs(device.run, TimingBudget(40, 0.0, calls=4), device.clock)
    assert (timed.samples_ms, timed.calls) == ((2.0,) * 40, 4)
    latency = summarise([timed.samples_ms], calls_per_run=4)
    assert (latency.median_ms, latency.p90_ms, latency.p99_ms) == (2.0, None, None)
    assert "mean of 4 calls" in latency.unavailable["p90_ms"]


def test_what_follows_a_run_is_not_timed() -> None:
    device = FakeDevice(itertools.repeat(1.0))
    assert time_runs(device.run, TimingBudget(3, 0.0), device.clock, after=device.run).samples_ms == (1.0,) * 3
