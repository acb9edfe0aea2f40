"""The whole harness on devices whose distribution is known."""

import gc
import math

import numpy as np
import pytest

from drc_deploy.bench.measure.intervals import order_interval
from drc_deploy.bench.measure.latency import SMALLEST_DIFFERENCE, Latency, compare, ratio_by_round
from drc_deploy.bench.measure.stability import Conditions, Stability, judge
from tests.bench.measure.simulated import Machine, measured

QUIET = [Conditions(0.01, 0.0, 3000.0)] * 8
NORMAL_QUANTILES = {"median": 0.0, "p90": 1.2815516, "p95": 1.6448536, "p99": 2.3263479}


@pytest.fixture(autouse=True)
def _no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of simulated rounds need no garbage collection before each."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def lognormal(seed: int, runs: int, deviation: float = 0.2) -> list[list[float]]:
    draws = np.random.default_rng(seed).lognormal(math.log(5.0), deviation, (8, runs))
    return [[float(ms) for ms in row] for row in draws]


def test_percentiles_of_a_lognormal_device_are_those_of_the_closed_form() -> None:
    latency = measured(lognormal(0, 2500))
    for name, quantile in NORMAL_QUANTILES.items():
        assert getattr(latency, f"{name}_ms") == pytest.approx(5.0 * math.exp(0.2 * quantile), rel=0.02)
    assert latency.mean_ms == pytest.approx(5.0 * math.exp(0.02), rel=0.01)


def test_intervals_cover_the_truth_of_a_lognormal_device_as_often_as_promised() -> None:
    latencies = [measured(lognormal(seed, 50)) for seed in range(100)]
    for name, quantile in NORMAL_QUANTILES.items():
        truth = 5.0 * math.exp(0.2 * quantile)
        intervals = [bounds for latency in latencies if (bounds := getattr(latency, f"{name}_interval_ms"))]
        assert len(intervals) >= (50 if name == "p99" else 100)  # 400 runs have hardly to spare of the 368 for p99
        covered = sum(low <= truth <= high for low, high in intervals)
        assert covered >= 0.91 * len(intervals), name  # of 100 that cover 95 %, fewer do in 3 of 100 such tests
        assert all(high - low < 0.5 * truth for low, high in intervals), name


def test_the_interval_of_the_median_covers_it_where_runs_of_a_round_are_alike() -> None:
    exact = naive = 0
    for seed in range(200):
        noise = np.random.default_rng(seed)
        rows = 5.0 * np.exp(noise.normal(0, 0.02, (8, 1)) + noise.normal(0, 0.03, (8, 30)))
        latency = measured([[float(ms) for ms in row] for row in rows])
        low, high = latency.median_interval_ms or (0.0, 0.0)
        exact += low <= 5.0 <= high
        ranks = order_interval(latency.runs, 0.5) or (0, 0)
        naive += np.sort(rows, axis=None)[ranks[0]] <= 5.0 <= np.sort(rows, axis=None)[ranks[1]]
    assert exact >= 182
    assert naive < 140  # what taking all runs for independent would give


def test_an_interval_of_a_percentile_is_right_or_left_out_where_runs_of_a_round_are_alike() -> None:
    """With rounds that differ as much as runs do, eight of them tell little about a tail that lies between them."""
    for shift in (0.01, 0.03):
        truth = 5.0 * math.exp(NORMAL_QUANTILES["p90"] * math.hypot(0.03, shift))
        wrong = 0
        for seed in range(200):
            noise = np.random.default_rng(seed)
            rows = 5.0 * np.exp(noise.normal(0, shift, (8, 1)) + noise.normal(0, 0.03, (8, 30)))
            latency = measured(rows.tolist())
            low, high = latency.p90_interval_ms or (0.0, math.inf)
            assert latency.p90_ms is not None
            assert ("p90_interval_ms" in latency.unavailable) is (latency.p90_interval_ms is None)
            wrong += not low <= truth <= high
        assert wrong <= 10, shift


@pytest.mark.parametrize("loudness", [0.2, 1.0, 4.0])
def test_two_equal_engines_are_called_different_in_at_most_5_percent_of_runs(loudness: float) -> None:
    runs = [Machine(seed, loudness=loudness, runs=4).run((5.0, 5.0)) for seed in range(300)]
    assert sum(_different(*run) for run in runs) <= 15


def test_a_difference_of_3_percent_is_found_in_at_least_95_of_100_runs_on_a_quiet_machine() -> None:
    runs = [Machine(seed).run((5.0, 5.15)) for seed in range(100)]
    found = [compare(("slow", slow), ("fast", fast)) for fast, slow in runs]
    assert sum(item.different and item.speedup < 1 for item in found) >= 95
    covered = sum(low <= 1 / 1.03 <= high for low, high in (item.interval or (0, 0) for item in found))
    assert covered >= 91


def test_without_reversed_rounds_a_machine_that_slows_down_would_accuse_the_last_engine() -> None:
    def mean_ratio(alternating: bool) -> float:
        runs = [Machine(seed, drift=0.4).run((5.0, 5.0), alternating=alternating) for seed in range(40)]
        return float(np.mean([ratio_by_round(last, first)[0] for first, last in runs]))

    assert mean_ratio(alternating=True) == pytest.approx(1.0, abs=0.004)
    assert mean_ratio(alternating=False) > 1.015


def test_a_difference_below_the_noise_of_processes_is_none_however_sure_it_is() -> None:
    fast, slow = (measured([[ms] * 5 for _ in range(8)]) for ms in (100.0, 100.0 * (1 + 0.9 * SMALLEST_DIFFERENCE)))
    found = compare(("fast", fast), ("slow", slow))
    assert found.interval is not None
    assert found.interval[0] > 1
    assert not found.different


def _different(one: Latency, other: Latency) -> bool:
    return compare(("one", one), ("other", other)).different


def steady() -> Latency:
    return Machine(0, drift=0.0).run((5.0,))[0]


def verdict(latency: Latency, conditions: list[Conditions] = QUIET) -> Stability:
    return judge(latency, conditions, settled=True)


def test_a_quiet_device_is_stable_and_nothing_went_unseen() -> None:
    found = verdict(steady())
    assert (found.verdict, found.reasons, found.not_seen) == ("stable", (), ())


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_fewer_than_three_rounds_show_no_drift_and_so_nothing_is_called_stable(rounds: int) -> None:
    latency = measured([[10.0, 10.1, 9.9]] * rounds)
    found = judge(latency, QUIET[:rounds], settled=True)
    few = rounds < 3
    assert (found.verdict, found.drift) == (("unknown", None) if few else ("stable", 0.0))
    assert found.not_seen == (("drift: that takes 3 rounds at least",) if few else ())
    assert judge(latency, QUIET[:rounds], settled=False).verdict == "noisy"


def test_a_device_that_throttles_is_noisy_and_the_report_says_why() -> None:
    throttling = Machine(0, drift=0.4).run((5.0,))[0]
    clocks = [Conditions(0.01, 0.0, 3000.0 / (1 + 0.4 * number / 8)) for number in range(8)]
    found = verdict(throttling, clocks)
    assert found.verdict == "noisy"
    assert any("clock fell by" in reason and "throttled" in reason for reason in found.reasons)
    unseen = verdict(throttling, [Conditions(None, None, None)] * 8)
    assert any("rose, as when a machine throttles" in reason for reason in unseen.reasons)
    assert len(unseen.not_seen) == 2


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        (Conditions(0.4, 0.0, 3000.0), "other processes took 40% of the processors"),
        (Conditions(0.01, 0.05, 3000.0), "the hypervisor gave 5% of the processors to others"),
    ],
)
def test_what_else_the_machine_did_makes_steady_latencies_suspect(conditions: Conditions, reason: str) -> None:
    assert verdict(steady(), [conditions] * 8).reasons == (reason,)


def test_wild_runs_are_distinguished_from_a_few_outliers() -> None:
    wild = measured(lognormal(1, 10, deviation=0.4))
    assert any(reason.startswith("the runs spread by") for reason in verdict(wild).reasons)
    rows = [[float(ms) for ms in row] for row in np.random.default_rng(0).normal(10.0, 0.05, (8, 10))]
    rows[2][3] = 30.0
    one_peak = measured(rows)
    assert 23 in one_peak.outliers
    assert max(one_peak.rounds_ms[2]) == 30.0  # marked, not dropped
    assert verdict(one_peak).verdict == "stable"


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, -0.1, 0.1), (0.8, 0.7, 0.9)])
def test_autocorrelation_is_that_of_the_process(correlation: float, low: float, high: float) -> None:
    noise = np.random.default_rng(3)
    rounds = []
    for _ in range(8):
        values = [float(noise.normal())]
        for _ in range(199):
            values.append(correlation * values[-1] + math.sqrt(1 - correlation**2) * float(noise.normal()))
        rounds.append([10.0 + 0.1 * value for value in values])
    found = verdict(measured(rounds)).autocorrelation
    assert found is not None
    assert low < found < high
