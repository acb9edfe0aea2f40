"""Named budgets of steps for ``compress``; free of torch, for the command line."""

from dataclasses import dataclass
from typing import Literal

from drc_deploy.train.loop.run_options import TrainingPrecision

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
    precision: TrainingPrecision = "fp32"
    """Of the fine-tuning."""


BUDGETS: dict[BudgetName, StepBudget] = {
    # Minutes on a CPU for drn_xs: to see the chain work.
    "fast": StepBudget(200, 4, 4, 1000, 24),
    # drn_s on one H100 or H200. By what its parts took there (docs/gpu_results.md): 0.5 s a step of search, three
    # minutes of pruning, 33 ms an update of 16 patches. Never run as a whole.
    "30min": StepBudget(400, 2, 4, 40_000, 48, "bf16"),
    # The authors' search and pruning, and as many updates of fine-tuning as the paper's training has.
    "paper": StepBudget(2500, 10, 1, 1_000_000, 48),
}
