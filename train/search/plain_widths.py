"""Widths without a search: the same share everywhere, less where layers cost more, or at random."""

import math
from collections.abc import Sequence

import numpy as np

from drc_deploy.train.search.cost import CostBudget
from drc_deploy.train.search.selection import check_reachable, spend_rest

EPSILON = 1e-9
"""0.7 * 10 is 6.999... in floating point."""


def uniform_widths(full: Sequence[int], now: Sequence[int], ratio: float, steps: Sequence[int]) -> list[int]:
    """Keep full - floor(full * ratio) channels of every layer, down to a multiple of its step.

    Without rounding that is the manual design of the paper's Table 4.

    Args:
        full: Channels of each layer in the unpruned network.
        now: Channels that each layer has, the most that it can keep.
        ratio: Share to remove.
        steps: Every width is a multiple of its own, and at least that, but for layers that have fewer.
    """
    return _rounded([c - math.floor(c * ratio + EPSILON) for c in full], now, steps)


def _rounded(widths: Sequence[int], now: Sequence[int], steps: Sequence[int]) -> list[int]:
    return [min(max(w // s * s, s), present) for w, present, s in zip(widths, now, steps, strict=True)]


def widths_within(
    full: Sequence[int], now: Sequence[int], budget: CostBudget, steps: Sequence[int], *, by_cost: bool
) -> list[int]:
    """Keep the largest shares that are within the budget, then spend what rounding left over.

    Layers are widened step by step as long as the budget allows it, the relatively narrowest first, so that methods can
    be compared at equal cost.

    Args:
        full: As for ``uniform_widths``.
        now: As for ``uniform_widths``.
        budget: The most that the network may cost.
        steps: As for ``uniform_widths``.
        by_cost: Whether the share of a layer falls with the square root of what the layer costs, instead of being the
            same everywhere. That is best where the harm of a layer is the inverse of its share.

    Raises:
        UsageError: even the narrowest network is too costly.
    """
    relative = _shares_by_cost(full, budget) if by_cost else [1.0] * len(full)

    def widths(most: float) -> list[int]:
        shared = [math.floor(c * min(1.0, most * r) + EPSILON) for c, r in zip(full, relative, strict=True)]
        return _rounded(shared, now, steps)

    shares = [i / 1000 / min(relative) for i in range(1, 1001)]
    fitting = [share for share in shares if budget.cost.total(widths(share)) <= budget.limit]
    if not fitting:
        check_reachable(widths(0), budget)
    least_step = min((step for step, present in zip(steps, now, strict=True) if step < present), default=1)
    return spend_rest(widths(fitting[-1]), full, now, budget, least_step)


def _shares_by_cost(full: Sequence[int], budget: CostBudget) -> list[float]:
    """Return the share of each layer, that of the cheapest being 1."""
    costs = [budget.cost.total(full) - budget.cost.total([*full[:i], 1, *full[i + 1 :]]) for i in range(len(full))]
    least = min((cost for cost in costs if cost > 0), default=1.0)
    return [math.sqrt(least / cost) if cost > 0 else 1.0 for cost in costs]


def random_widths(candidates: Sequence[Sequence[int]], budget: CostBudget | None, seed: int) -> list[int]:
    """Draw one candidate of each layer; then, under a budget, narrow and widen layers at random to come up to it.

    Args:
        candidates: For each layer its widths, rising.
        budget: The most that the network may cost.
        seed: Decides everything.

    Raises:
        UsageError: even the narrowest candidates are too costly.
    """
    random = np.random.default_rng(seed)
    chosen = [int(random.integers(len(widths))) for widths in candidates]
    if budget:
        check_reachable([widths[0] for widths in candidates], budget)
        _fit(chosen, candidates, budget, random)
    return [widths[number] for widths, number in zip(candidates, chosen, strict=True)]


def _fit(
    chosen: list[int], candidates: Sequence[Sequence[int]], budget: CostBudget, random: np.random.Generator
) -> None:
    """Take a candidate less in random layers until the budget is met, then one more wherever that is allowed."""

    def too_costly() -> bool:
        return budget.cost.total([row[number] for row, number in zip(candidates, chosen, strict=True)]) > budget.limit

    while too_costly():
        chosen[random.choice(np.flatnonzero(chosen))] -= 1
    for layer in random.permutation(len(chosen)):
        while chosen[layer] + 1 < len(candidates[layer]):
            chosen[layer] += 1
            if too_costly():
                chosen[layer] -= 1
                break
