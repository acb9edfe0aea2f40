import math
from itertools import combinations

import numpy as np
import pytest

from drc_deploy.bench.measure.intervals import ranks_outside
from drc_deploy.bench.measure.latency import RunRatio, ratio_of_runs, summarise


def ratio(before: list[float], after: list[float]) -> RunRatio:
    return ratio_of_runs(*(summarise([[ms] for ms in rounds]) for rounds in (before, after)))


def test_a_run_that_takes_twice_as_long_in_every_round_has_the_ratio_two() -> None:
    rounds = [10.0, 11.0, 9.5, 10.2, 10.1, 9.9, 10.3, 9.8]
    found = ratio(rounds, [2 * ms for ms in rounds])
    assert found.ratio == pytest.approx(2.0)
    assert found.significant


def test_a_run_against_itself_is_no_change() -> None:
    rounds = [10.0, 11.0, 9.5, 10.2, 10.1, 9.9, 10.3, 9.8]
    found = ratio(rounds, rounds)
    assert found.ratio == pytest.approx(1.0)
    assert not found.significant


def test_turning_the_reports_round_gives_the_inverse() -> None:
    first, second = [10.0, 11.0, 9.5, 10.2, 12.1, 9.9, 10.3, 9.8], [8.0, 9.0, 9.1, 8.3, 8.5, 7.9, 8.8, 8.1]
    there, back = ratio(first, second), ratio(second, first)
    assert there.interval is not None
    assert back.interval is not None
    assert 1 / there.interval[1] == pytest.approx(back.interval[0])
    assert 1 / there.interval[0] == pytest.approx(back.interval[1])


@pytest.mark.parametrize(("count", "other"), [(8, 8), (5, 8), (4, 4), (8, 20)])
def test_the_interval_is_where_the_test_of_mann_and_whitney_does_not_reject(count: int, other: int) -> None:
    """A second implementation: the exact test of scipy, turned into an interval by trying shifts of the logarithm."""
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(count * other)
    first, second = generator.lognormal(3.0, 0.1, count), generator.lognormal(3.1, 0.1, other)
    found = ratio(first.tolist(), second.tolist()).interval
    assert found is not None
    for bound, inside in ((found[0], 1 + 1e-6), (found[1], 1 - 1e-6)):
        kept, rejected = (
            stats.mannwhitneyu(first * bound * factor, second, method="exact").pvalue for factor in (inside, 2 - inside)
        )
        assert rejected <= 0.05 < kept


@pytest.mark.parametrize(("count", "other"), [(3, 3), (2, 7), (1, 30)])
def test_too_few_rounds_have_no_interval(count: int, other: int) -> None:
    found = ratio([10.0] * count, [20.0] * other)
    assert found.interval is None
    assert not found.significant


def test_ranks_agree_with_counting_every_order_of_two_small_samples() -> None:
    for count, other in ((4, 4), (4, 5), (3, 6), (5, 5)):
        values = [
            sum(place - index for index, place in enumerate(chosen))
            for chosen in combinations(range(count + other), count)
        ]
        trim = ranks_outside(count, other)
        share = {k: sum(value <= k for value in values) / math.comb(count + other, count) for k in range(-1, 25)}
        assert trim is not None
        assert share[trim] <= 0.025 < share[trim + 1]


def test_one_in_twenty_runs_of_nothing_but_independent_noise_is_called_a_change_at_most() -> None:
    generator = np.random.default_rng(7)
    calls = sum(ratio(*generator.lognormal(3.0, 0.05, (2, 8)).tolist()).significant for _ in range(1000))
    assert 20 <= calls <= 70  # 0.05 at most by design (exactly 0.0499 for 8 and 8), give or take chance
