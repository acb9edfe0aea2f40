"""What one run of the training loop does."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from drc_deploy.errors import UsageError
from drc_deploy.train.loop.limits import check_counts, check_not_negative, check_rates

DualVariant = Literal["none", "single", "progressive", "wide", "hr-cycle"]
"""Without duals; with one kind of them; or progressive ones with a second cycle that starts from the HR image."""
TargetImages = Literal["photographs", "self"]
"""What outputs are compared with: photographs, or what the unpruned network makes of the LR image."""
Schedule = Literal["cosine", "constant"]
"""How the learning rate goes on after the warm-up."""
TrainingPrecision = Literal["fp32", "bf16", "fp16"]
"""What the convolutions of a training step are computed in."""
LONGEST_WARM_UP = 100
"""Steps over which the learning rate rises from zero by itself; Adam's moments are empty at first."""
_CHOICES = {"dual": get_args(DualVariant), "schedule": get_args(Schedule), "precision": get_args(TrainingPrecision)}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """All that decides the weights, apart from the data. The defaults are the paper's where the paper has one."""

    steps: int
    """Updates of the weights."""
    batch: int = 32
    """Patches per update, over all processes (paper: 32)."""
    patch: int = 48
    """Side of a patch in LR pixels (paper: 48)."""
    learning_rate: float = 1e-4
    """Adam's learning rate at its highest (paper: 1e-4)."""
    final_learning_rate: float = 1e-7
    """Where the cosine schedule ends (paper: 1e-7)."""
    schedule: Schedule = "cosine"
    warm_up: int | None = None
    """Steps of linear warm-up; None: a tenth of the steps, at most ``LONGEST_WARM_UP`` (paper: none)."""
    dual: DualVariant = "progressive"
    """Which dual networks take part (see ``losses``)."""
    dual_weight: float = 0.1
    """Lambda, the weight of the dual part of the loss (paper: 0.1)."""
    precision: TrainingPrecision = "fp32"
    """Of the convolutions; images, losses and weights are always float32."""
    accumulate: int = 1
    """Parts that a batch is divided into to save memory; the gradients are the same."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is validated and kept; 0 keeps the weights themselves."""
    branches: bool = False
    """Train 3x3 convolutions as sums of branches, which the result holds merged."""
    compile: bool = False
    """Let ``torch.compile`` fuse the step."""
    seed: int = 1
    """Decides the patches, and the initial weights of a new network."""

    def __post_init__(self) -> None:
        """Refuse options that cannot be run."""
        check_counts(self, "steps", "batch", "patch", "accumulate")
        check_rates(self, "learning_rate")
        check_not_negative(self, "dual_weight", "final_learning_rate")
        if self.dual != "none" and not self.dual_weight:
            raise UsageError("duals with a weight of 0 would learn nothing.", "Train without: --dual none.")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"there is no {name} {getattr(self, name)!r}.", f"Known are {', '.join(known)}.")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must be at least 0 and below 1, not {self.ema}.", "0.999 is usual; 0 is off.")
        if self.batch % self.accumulate:
            raise UsageError(
                f"a batch of {self.batch} patches cannot be divided into {self.accumulate} equal parts.",
                "Give an --accumulate that divides --batch.",
            )
        if self.warm_up is not None and not 0 <= self.warm_up <= self.steps:
            raise UsageError(
                f"warm_up must be 0 to {self.steps} steps, not {self.warm_up}.", "Give a smaller --warm-up."
            )
        if self.final_learning_rate > self.learning_rate:
            raise UsageError(
                f"the final learning rate {self.final_learning_rate} is above the learning rate {self.learning_rate}.",
                "Lower --final-learning-rate.",
            )

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of update ``step`` (from 0): linear warm-up, then the schedule."""
        warm_up = min(LONGEST_WARM_UP, self.steps // 10) if self.warm_up is None else self.warm_up
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        if self.schedule == "constant":
            return self.learning_rate
        phase = (step - warm_up) / max(1, self.steps - warm_up)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * phase)) / 2
