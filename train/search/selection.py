"""The best width of each layer under a bound on the whole network's cost."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drc_deploy.errors import UsageError
from drc_deploy.train.search.cost import CostBudget, CostModel
from drc_deploy.widths import amount

BUCKETS = 20_000
"""Steps of the grid on which costs are added up. Costs are rounded up to it, so that a bound is never exceeded."""


def choose_widths(
    values: Sequence[Sequence[float]], candidates: Sequence[Sequence[int]], cost: CostModel, limit: float
) -> list[int]:
    """Choose one candidate per layer so that the sum of values is greatest and the cost is within the limit.

    A multiple-choice knapsack, solved by dynamic programming over a grid of costs. Of equal sums the costlier is taken:
    what may be spent is worth more in the network than unspent.

    Args:
        values: For each layer the value of each candidate, such as its log probability.
        candidates: For each layer its widths.
        cost: What they cost.
        limit: The most that the network may cost.

    Raises:
        UsageError: no choice is within the limit; the message names the nearest.
    """
    costs = [[cost.of_layer(i, width) for width in widths] for i, widths in enumerate(candidates)]
    least = cost.fixed + sum(map(min, costs))
    if least > limit:
        nearest = math.floor(1000 * (1 - least / cost.full)) / 1000  # rounded up, it would be refused, too
        raise UsageError(
            f"no candidates meet {amount(limit)} {cost.unit}; the nearest that can be reached is {amount(least)}, "
            f"a ratio of {nearest:.3f}.",
            "Give a smaller --ratio or a smaller --round-to.",
        )
    # What the cheapest candidates cost is no part of the choice: the grid is all for the rest.
    spare = limit - least
    cell = max(spare, 1e-9 * limit) / BUCKETS
    extra = [np.ceil(((np.array(row) - min(row)) / cell).clip(max=BUCKETS + 1) - 1e-9).astype(int) for row in costs]
    chosen = _best_choice([np.asarray(row, float) for row in values], extra)
    return [widths[choice] for widths, choice in zip(candidates, chosen, strict=True)]


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
