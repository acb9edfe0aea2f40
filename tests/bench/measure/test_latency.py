import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.bench.measure.intervals import independent_runs, order_interval, runs_needed
from drc_deploy.bench.measure.latency import ratio_by_round, summarise


def test_percentiles_of_equally_spaced_samples_have_their_closed_form() -> None:
    samples = [float(value) for value in range(1, 402)]
    random.Random(0).shuffle(samples)
    latency = summarise([samples[first : first + 50] for first in range(0, 401, 50)])
    assert (latency.median_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms) == (201.0, 361.0, 381.0, 397.0)
    assert latency.std_ms == pytest.approx(math.sqrt(401 * 402 / 12))
    assert latency.images_per_second == pytest.approx(1000 / 201)
    assert {"median_interval_ms", "p90_ms", "p95_ms", "p99_ms"}.isdisjoint(latency.unavailable)


@pytest.mark.parametrize(("part", "runs"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_percentile_needs_as_many_runs_as_bound_it(part: float, runs: int) -> None:
    assert runs_needed(part) == runs
    assert part**runs <= 0.025 < part ** (runs - 1)
    assert order_interval(runs, part) is not None
    assert order_interval(runs - 1, part) is None


def test_percentiles_beyond_the_samples_are_null_with_a_reason() -> None:
    latency = summarise([[1.0, 2.0, 3.0] * 12])
    assert latency.p90_ms is not None
    assert latency.p99_ms is None
    assert latency.unavailable["p99_ms"] == "36 runs say too little: 368 are needed"
    assert latency.unavailable["p95_ms"] == "36 runs say too little: 72 are needed"
    assert latency.unavailable["median_interval_ms"] == "1 round says too little: 6 are needed"
    assert latency.p90_ms == 3.0
    assert latency.p90_interval_ms is None
    assert latency.unavailable["p90_interval_ms"] == latency.unavailable["median_interval_ms"]
    assert "p90_ms" not in latency.unavailable


def test_an_interval_of_a_percentile_needs_as_many_rounds_as_that_of_the_median() -> None:
    rows = np.random.default_rng(0).lognormal(0.0, 0.2, (6, 100)).tolist()
    assert summarise(rows[:5]).p90_interval_ms is None
    low, high = summarise(rows).p90_interval_ms or (0.0, 0.0)
    assert low < summarise(rows).p90_ms < high  # type: ignore[operator]


def test_runs_that_are_alike_within_their_round_count_as_one() -> None:
    rows = [[factor] * 50 for factor in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7)]
    assert independent_runs(rows) == 7  # that a variance is estimated from eight values costs one of them
    assert independent_runs([[1.0, 2.0, 3.0, 4.0]] * 8) == 32
    assert independent_runs([[2.0] * 5] * 8) == 40
    latency = summarise(rows)
    assert (latency.p90_ms, latency.p90_interval_ms) == (1.7, None)
    assert latency.unavailable["p90_interval_ms"] == (
        "the rounds differ: 400 runs are worth 7 independent ones, 36 are needed"
    )


@given(st.integers(1, 8), st.integers(1, 30), st.integers(0, 99))
def test_runs_are_worth_at_most_as_many_independent_ones(rounds: int, runs: int, seed: int) -> None:
    rows = np.random.default_rng(seed).lognormal(0.0, 0.3, (rounds, runs)).tolist()
    assert 1 <= independent_runs(rows) <= rounds * runs


def test_the_interval_of_the_median_of_ten_is_the_textbook_one() -> None:
    # Conover: x(2) to x(9) holds the median with 97.9 %, x(3) to x(8) with 89.1 % only.
    assert order_interval(10, 0.5) == (1, 8)


def test_intervals_cover_the_true_median_as_often_as_promised() -> None:
    draws = np.random.default_rng(1).lognormal(0.0, 0.5, (2000, 40))
    low, high = order_interval(40, 0.5) or (0, 0)
    ordered = np.sort(draws, axis=1)
    covered = np.mean((ordered[:, low] <= 1.0) & (ordered[:, high] >= 1.0))
    assert 0.95 <= covered < 0.98


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60))
def test_statistics_lie_between_the_extremes(samples: list[float]) -> None:
    latency = summarise([samples])
    slack = 1e-9 * latency.max_ms
    assert latency.min_ms - slack <= latency.median_ms <= latency.max_ms + slack
    assert latency.min_ms - slack <= latency.mean_ms <= latency.max_ms + slack


@pytest.mark.parametrize("samples", [[], [0.0], [math.nan], [math.inf], [-1.0]])
def test_impossible_samples_are_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        summarise([samples])


def test_the_ratio_of_two_engines_is_taken_within_each_round() -> None:
    other = summarise([[10.0 * factor, 11.0 * factor, 12.0 * factor] for factor in range(1, 9)])
    one = summarise([[22.0 * factor * (2 if factor == 4 else 1)] for factor in range(1, 9)])
    ratio, interval = ratio_by_round(one, other)
    assert ratio == pytest.approx(2.0)
    assert interval == pytest.approx((2.0, 2.0 * math.sqrt(2)))


def test_a_ratio_over_fewer_rounds_than_confidence_needs_has_no_interval() -> None:
    one = summarise([[2.0]] * (runs_needed(0.5) - 1))
    assert ratio_by_round(one, one) == (1.0, None)
