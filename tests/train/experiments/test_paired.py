"""Intervals are those of published tables of Student's t, and hold the true mean as often as they say."""

import numpy as np
import pytest

from drc_deploy.train.experiments.paired import Differences, t_quantile


@pytest.mark.parametrize(
    ("degrees", "of_95", "of_99"),
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
    [(1, 12.706, 63.657), (2, 4.303, 9.925), (3, 3.182, 5.841), (4, 2.776, 4.604), (5, 2.571, 4.032),
     (9, 2.262, 3.250), (10, 2.228, 3.169), (29, 2.045, 2.756), (30, 2.042, 2.750), (100, 1.984, 2.626)],
)  # fmt: skip
def test_quantiles_are_those_of_the_handbook(degrees: int, of_95: float, of_99: float) -> None:
    assert t_quantile(0.95, degrees) == pytest.approx(of_95, abs=5.1e-4)
    assert t_quantile(0.99, degrees) == pytest.approx(of_99, abs=5.1e-4)


@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_intervals_hold_the_true_mean_in_19_of_20_cases(pairs: int) -> None:
    samples = np.random.default_rng(1).normal(0.1, 0.3, (4000, pairs))
    intervals = [Differences.of(row).interval for row in samples.tolist()]
    held = np.mean([found is not None and found[0] <= 0.1 <= found[1] for found in intervals])
    assert held == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_one_pair_has_no_interval() -> None:
    assert str(Differences.of([0.25])) == "+0.250"
    assert str(Differences.of([1.0, 1.0])) == "+1.000 ± 0.000 (+1.000 to +1.000)"
