"""What one run of the training loop does."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from drc_deploy.errors import UsageError
from drc_deploy.train.loop.limits import LARGEST_COUNT, check_counts, check_not_negative, check_rates

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
MANY_STEPS = 100_000
"""Stands for the steps of a run of minutes, where losses are remembered and files are named."""
MOST_PLACES = 16
"""More would cut the same few edges of a photograph again and again."""
LONGEST_MINUTES = 1_000_000
"""Two years."""
_CHOICES = {"dual": get_args(DualVariant), "schedule": get_args(Schedule), "precision": get_args(TrainingPrecision)}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """All that decides the weights, apart from the data. The defaults are the paper's where the paper has one."""

    steps: int | None = None
    """Updates of the weights; None: as many as ``minutes`` allow."""
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
    """Steps of linear warm-up; None: a tenth of the run, at most ``LONGEST_WARM_UP`` steps (paper: none)."""
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
    half: bool = False
    """Whether the weights that are validated and kept are rounded to float16, and stored so."""
    compile: bool = False
    """Let ``torch.compile`` fuse the step."""
    augment_scale: float | None = None
    """Photographs are reduced to a share of 1, 0.9, ... down to this one before patches are cut; None: they are not."""
    prefer_detail: int = 1
    """Places in a photograph that are drawn for each patch; the one of most detail is cut out."""
    seed: int = 1
    """Decides the patches, and the initial weights of a new network."""
    minutes: float | None = None
    """Time spent in updates, in place of ``steps``: the learning rate then depends on the clock."""

    def __post_init__(self) -> None:
        """Refuse options that cannot be run."""
        self._check_length()
        check_counts(self, "batch", "patch", "accumulate")
        check_rates(self, "learning_rate")
        check_not_negative(self, "dual_weight", "final_learning_rate")
        if self.dual != "none" and not self.dual_weight:
            raise UsageError("duals with a weight of 0 would learn nothing.", "Train without: --dual none.")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"there is no {name} {getattr(self, name)!r}.", f"Known are {', '.join(known)}.")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must be at least 0 and below 1, not {self.ema}.", "0.999 is usual; 0 is off.")
        if self.augment_scale is not None and not 0.5 <= self.augment_scale <= 0.9:
            raise UsageError(
                f"augment_scale must be from 0.5 to 0.9, not {self.augment_scale}.",
                "Give --augment-scale 0.6, or leave it out.",
            )
        if not 1 <= self.prefer_detail <= MOST_PLACES:
            raise UsageError(
                f"prefer_detail must be from 1 to {MOST_PLACES}, not {self.prefer_detail}.",
                "Give --prefer-detail 2 to 4; 1 is off.",
            )
        if self.batch % self.accumulate:
            raise UsageError(
                f"a batch of {self.batch} patches cannot be divided into {self.accumulate} equal parts.",
                "Give an --accumulate that divides --batch.",
            )
        if self.final_learning_rate > self.learning_rate:
            raise UsageError(
                f"the final learning rate {self.final_learning_rate} is above the learning rate {self.learning_rate}.",
                "Lower --final-learning-rate.",
            )

    def _check_length(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("a run lasts either steps or minutes.", "Give one of --steps and --minutes.")
        if self.steps is not None:
            check_counts(self, "steps")
        if self.minutes is not None and not 0 < self.minutes <= LONGEST_MINUTES:
            raise UsageError(
                f"minutes must be above 0 and at most {LONGEST_MINUTES:,}, not {self.minutes}.", "Give other --minutes."
            )
        most = LARGEST_COUNT if self.steps is None else self.steps
        if self.warm_up is not None and not 0 <= self.warm_up <= most:
            raise UsageError(f"warm_up must be 0 to {most} steps, not {self.warm_up}.", "Give another --warm-up.")

    def share_at(self, step: int, seconds: float) -> float:
        """Return which share of the run is over, 0 to 1, after ``step`` updates that took ``seconds``."""
        over = step / self.steps if self.steps else seconds / (60 * (self.minutes or math.inf))
        return min(1.0, over)

    def learning_rate_at(self, step: int, seconds: float = 0.0) -> float:
        """Return the learning rate of update ``step`` (from 0), before which training took ``seconds``.

        Linear warm-up, then the schedule. It goes by the steps after the warm-up or, in a run of minutes, by the time.
        """
        if self.steps is None:
            return self._warmth_at(step, seconds) * self._scheduled(self.share_at(step, seconds))
        warm_up = min(LONGEST_WARM_UP, self.steps // 10) if self.warm_up is None else self.warm_up
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        return self._scheduled((step - warm_up) / max(1, self.steps - warm_up))

    def _warmth_at(self, step: int, seconds: float) -> float:
        """Return the factor of warm-up in a run of minutes."""
        if self.warm_up is not None:
            return min(1.0, (step + 1) / max(1, self.warm_up))
        return min(1.0, max((step + 1) / LONGEST_WARM_UP, 10 * self.share_at(step, seconds)))

    def _scheduled(self, phase: float) -> float:
        """Return the learning rate by the schedule, which goes from 0 to 1."""
        if self.schedule == "constant":
            return self.learning_rate
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * phase)) / 2
