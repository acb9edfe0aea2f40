"""Named budgets of steps for ``compress``; free of torch, for the command line."""

from dataclasses import dataclass, replace
from typing import Literal

BudgetName = Literal["fast", "30min", "paper"]


@dataclass(frozen=True, slots=True)
class StepBudget:
    """How much work each stage of ``compress`` does."""

    search_steps: int
    prune_batches: int
    """Batches per pass over the pruning data."""
    channels_per_step: int
    """Channels taken up after each pass."""
    finetune_steps: int
    patch: int
    """Side of a patch in LR pixels."""

    def with_numbers(self, **numbers: int | None) -> "StepBudget":
        """Give a budget with some numbers replaced; None leaves one as it is."""
        return replace(self, **{name: number for name, number in numbers.items() if number is not None})


BUDGETS: dict[BudgetName, StepBudget] = {
    # Minutes on a CPU for drn_xs: to see the chain work.
    "fast": StepBudget(200, 4, 4, 1000, 24),
    # drn_s on one large GPU. An estimate, never run: likely too long, by the times in docs/gpu_results.md.
    "30min": StepBudget(1000, 4, 2, 40_000, 48),
    # The authors' search and pruning, and as many updates of fine-tuning as the paper's training has.
    "paper": StepBudget(2500, 10, 1, 1_000_000, 48),
}
