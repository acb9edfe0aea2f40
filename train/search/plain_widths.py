"""Widths without a search: the same share everywhere, or at random."""

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


def uniform_widths_within(
    full: Sequence[int], now: Sequence[int], budget: CostBudget, steps: Sequence[int]
) -> list[int]:
    """Keep the largest common share that is within the budget, then spend what rounding left over.

    Layers are widened step by step as long as the budget allows it, the relatively narrowest first, so that methods can
    be compared at equal cost.

    Raises:
        UsageError: even the narrowest network is too costly.
    """
    shares = [i / 1000 for i in range(1, 1001)]
    fitting = [share for share in shares if budget.cost.total(_shared(full, now, share, steps)) <= budget.limit]
    if not fitting:
        check_reachable(_shared(full, now, 0, steps), budget)
    least_step = min((step for step, present in zip(steps, now, strict=True) if step < present), default=1)
    return spend_rest(_shared(full, now, fitting[-1], steps), full, now, budget, least_step)


def _shared(full: Sequence[int], now: Sequence[int], share: float, steps: Sequence[int]) -> list[int]:
    return _rounded([math.floor(c * share + EPSILON) for c in full], now, steps)


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
