"""The best width of each layer under a bound on the whole network's cost."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import UsageError
from drc_deploy.train.search.cost import CostBudget
from drc_deploy.widths import amount

BUCKETS = 20_000
"""Steps of the grid on which costs are added up. Costs are rounded up to it, so that a bound is never exceeded."""
ROUNDS = 8
"""Choices at most, each with the costs around the one before."""


def check_reachable(narrowest: Sequence[int], budget: CostBudget) -> None:
    """Check that the narrowest widths are within the budget.

    Raises:
        UsageError: they are not; the message names the nearest bound.
    """
    cost, least = budget.cost, budget.cost.total(narrowest)
    if least > budget.limit:
        nearest = math.floor(1000 * (1 - least / budget.full)) / 1000  # rounded up, it would be refused, too
        raise UsageError(
            f"no candidates meet {amount(budget.limit)} {cost.unit}; the nearest that can be reached is "
            f"{amount(least)}, a ratio of {nearest:.3f}.",
            "Give a smaller --ratio or a smaller --round-to.",
        )


def choose_widths(
    values: Sequence[Sequence[float]], candidates: Sequence[Sequence[int]], budget: CostBudget
) -> list[int]:
    """Choose one candidate per layer so that the sum of values is greatest and the cost is within the budget.

    Of equal sums the costlier is taken: what may be spent is worth more in the network than unspent. Where the cost is
    a sum over layers, no choice is better. Where layers meet in one weight, as in a chain of convolutions, what a layer
    costs depends on its neighbours: costs are then taken around the last choice, until it stays the same.

    Args:
        values: For each layer the value of each candidate, such as its log probability.
        candidates: For each layer its widths, rising.
        budget: What they may cost.

    Raises:
        UsageError: no choice is within the limit; the message names the nearest.
    """
    check_reachable([min(row) for row in candidates], budget)
    best = [max(zip(row, of_row, strict=True))[1] for row, of_row in zip(values, candidates, strict=True)]
    for _ in range(ROUNDS):
        last, best = best, _knapsack(values, candidates, budget, best)
        if best == last:
            break
    return _narrowed(best, values, candidates, budget)


def _knapsack(
    values: Sequence[Sequence[float]], candidates: Sequence[Sequence[int]], budget: CostBudget, around: Sequence[int]
) -> list[int]:
    """Solve a multiple-choice knapsack whose costs are those of changing one layer of ``around`` at a time."""

    def cost(index: int, width: int) -> float:
        return budget.cost.total([*around[:index], width, *around[index + 1 :]])

    costs = [np.array([cost(i, width) for width in row]) for i, row in enumerate(candidates)]
    # What the cheapest candidates cost is no part of the choice: the grid is all for the rest.
    here = budget.cost.total(around)
    spare = max(0.0, budget.limit - here + sum(here - row.min() for row in costs))
    cell = max(spare, 1e-9 * budget.limit) / BUCKETS
    extra = [np.ceil(((row - row.min()) / cell).clip(max=BUCKETS + 1) - 1e-9).astype(int) for row in costs]
    chosen = _best_choice([np.asarray(row, float) for row in values], extra)
    return [widths[choice] for widths, choice in zip(candidates, chosen, strict=True)]


def _narrowed(
    widths: Sequence[int], values: Sequence[Sequence[float]], candidates: Sequence[Sequence[int]], budget: CostBudget
) -> list[int]:
    """Take narrower candidates until the budget is met, each time where the least value is lost per cost."""
    chosen = [row.index(width) for row, width in zip(candidates, widths, strict=True)]

    def total(numbers: Sequence[int]) -> float:
        return budget.cost.total([row[number] for row, number in zip(candidates, numbers, strict=True)])

    def price(index: int) -> float:
        saved = total(chosen) - total([n - (i == index) for i, n in enumerate(chosen)])
        return (values[index][chosen[index]] - values[index][chosen[index] - 1]) / max(saved, 1e-9)

    while total(chosen) > budget.limit:
        chosen[min((i for i, number in enumerate(chosen) if number), key=price)] -= 1
    return [row[number] for row, number in zip(candidates, chosen, strict=True)]


def spend_rest(
    widths: Sequence[int], wanted: Sequence[float], most: Sequence[int], budget: CostBudget, step: int
) -> list[int]:
    """Widen layers step by step as long as the budget allows it, the furthest from ``wanted`` first.

    Args:
        widths: Within the budget.
        wanted: For each layer the width that it should have.
        most: The most that it can have.
        budget: What all may cost.
        step: Channels of one step.
    """
    result = list(widths)

    def widened(index: int) -> list[int]:
        return [*result[:index], min(result[index] + step, most[index]), *result[index + 1 :]]

    while fitting := [
        index
        for index, width in enumerate(result)
        if width < most[index] and budget.cost.total(widened(index)) <= budget.limit
    ]:
        result = widened(min(fitting, key=lambda index: result[index] / wanted[index]))
    return result


def _best_choice(values: list[NDArray[np.float64]], costs: list[NDArray[np.int_]]) -> list[int]:
    """Solve the knapsack of ``BUCKETS`` and return the number of the candidate of each layer."""
    best = np.full(BUCKETS + 1, -np.inf)
    best[0] = 0.0  # best[c]: greatest value of a choice that costs exactly c
    choices = []
    for row, needed in zip(values, costs, strict=True):
        options = np.full((len(row), BUCKETS + 1), -np.inf)
        for number, (value, price) in enumerate(zip(row, needed, strict=True)):
            if price <= BUCKETS:
                options[number, price:] = best[: BUCKETS + 1 - price] + value
        # The last of equal ones, which is the widest.
        choice = len(row) - 1 - np.argmax(options[::-1], axis=0)
        best = options[choice, np.arange(BUCKETS + 1)]
        choices.append(choice)
    spent = BUCKETS - int(np.argmax(np.isclose(best, best.max(), rtol=0, atol=1e-9)[::-1]))
    chosen = []
    for choice, needed in zip(reversed(choices), reversed(costs), strict=True):
        chosen.append(int(choice[spent]))
        spent -= int(needed[chosen[-1]])
    return chosen[::-1]
