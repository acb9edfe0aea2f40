"""The choice of widths is the best one, and never above the bound."""

import itertools
import random
import re

import numpy as np
import pytest

from drc_deploy.errors import UsageError
from drc_deploy.train.search.cost import CostBudget, CostModel, ProductOfWidths, SumOfLayers
from drc_deploy.train.search.selection import choose_widths


def within(cost: CostModel, limit: float, full: list[int]) -> CostBudget:
    return CostBudget(cost, limit, cost.total(full))


def chain(chance: random.Random) -> ProductOfWidths:
    """Return the cost of 3 -> w0 -> w1 -> ... -> w4 -> 3 channels, each step as long as it is wide."""
    makes, reads = np.eye(6, 5), np.eye(6, 5, -1)
    ends = np.array([3.0, 0, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 0, 3.0])
    uses = np.array([float(chance.randint(1, 9)) for _ in range(6)])
    return ProductOfWidths("multiply-adds", uses, ((ends[0], reads), (ends[1], makes)))


def problem(seed: int) -> tuple[list[list[float]], list[list[int]], CostModel, float]:
    chance = random.Random(seed)
    candidates = [sorted(chance.sample(range(1, 33), 4)) for _ in range(5)]
    values = [[chance.uniform(-3, 0) for _ in row] for row in candidates]
    points = tuple(((0, 0.0), (32, chance.uniform(1, 100))) for _ in candidates)
    cost: CostModel = SumOfLayers("multiply-adds", 10.0, points) if seed < 20 else chain(chance)
    least, most = (cost.total([pick(row) for row in candidates]) for pick in (min, max))
    return values, candidates, cost, least + chance.uniform(0.1, 0.9) * (most - least)


def test_the_cost_of_a_chain_is_that_of_counting() -> None:
    cost, widths = chain(random.Random(5)), [7, 2, 11, 5, 3]
    counted = sum(uses * a * b for uses, a, b in zip(cost.uses.tolist(), [3, *widths], [*widths, 3], strict=True))
    assert cost.total(widths) == counted


@pytest.mark.parametrize("seed", range(40))
def test_the_choice_is_that_of_brute_force(seed: int) -> None:
    """For a sum over layers (below 20); for a chain of layers it is within the bound and close to the best."""
    values, candidates, cost, limit = problem(seed)
    numbered = [list(zip(*rows, strict=True)) for rows in zip(values, candidates, strict=True)]
    allowed = [
        (sum(value for value, _ in choice), [width for _, width in choice])
        for choice in itertools.product(*numbered)
        if cost.total([width for _, width in choice]) <= limit
    ]
    best = max(value for value, _ in allowed)
    chosen = choose_widths(values, candidates, within(cost, limit, [32] * 5))
    assert cost.total(chosen) <= limit
    value = sum(dict(zip(c, v, strict=True))[w] for v, c, w in zip(values, candidates, chosen, strict=True))
    assert value == pytest.approx(best, abs=1e-9 if seed < 20 else 2.0)


def test_of_equal_values_as_much_as_possible_is_spent() -> None:
    cost = SumOfLayers("parameters", 0.0, (((0, 0.0), (10, 10.0)),) * 3)
    assert sum(choose_widths([[0.0] * 4] * 3, [[2, 4, 6, 8]] * 3, within(cost, 17.0, [10] * 3))) == 16


def test_a_limit_that_the_cheapest_choice_meets_exactly_is_met() -> None:
    cost = SumOfLayers("parameters", 5.0, (((0, 0.0), (10, 10.0)),) * 3)
    assert choose_widths([[0.0, 1.0]] * 3, [[4, 8]] * 3, within(cost, 17.0, [10] * 3)) == [4, 4, 4]


def test_an_impossible_limit_names_the_nearest() -> None:
    cost = SumOfLayers("parameters", 5.0, (((0, 0.0), (10, 10.0)),) * 3)
    with pytest.raises(UsageError, match="nearest that can be reached is 17"):
        choose_widths([[0.0]] * 3, [[4]] * 3, within(cost, 16.9, [10] * 3))


@pytest.mark.parametrize("fixed", [4.0, 5.0, 5.004, 5.0056])
def test_the_ratio_that_is_named_can_be_reached(fixed: float) -> None:
    cost = SumOfLayers("parameters", fixed, (((0, 0.0), (10, 10.0)),) * 3)
    full = cost.total([10] * 3)
    with pytest.raises(UsageError) as caught:
        choose_widths([[0.0]] * 3, [[4]] * 3, within(cost, 1.0, [10] * 3))
    named = float(re.findall(r"ratio of ([0-9.]+)\.", caught.value.message)[0])
    assert choose_widths([[0.0]] * 3, [[4]] * 3, within(cost, (1 - named) * full, [10] * 3)) == [4, 4, 4]
    assert 1 - named == pytest.approx((fixed + 12) / full, abs=1e-3)


def test_a_limit_that_is_missed_by_a_hair_is_missed() -> None:
    cost = SumOfLayers("parameters", 0.0, (((0, 0.0), (10, 10.0)),) * 12)
    chosen = choose_widths([[0.0, 1.0]] * 12, [[1, 2]] * 12, within(cost, 12.99995, [10] * 12))
    assert cost.total(chosen) == 12
