"""How a pruning runs."""

from dataclasses import dataclass
from typing import Literal, get_args

from drc_deploy.errors import UsageError
from drc_deploy.train.loop.limits import check_counts, check_not_negative
from drc_deploy.train.loop.run_options import TargetImages

PruneMethod = Literal["drc", "dcp", "cp", "thinet", "srp", "magnitude"]
"""The paper's pruning, and those that it compares with (paper, Table 2)."""


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """How the pruning runs. Defaults follow the paper and its code."""

    method: PruneMethod = "drc"
    batches: int = 10
    """Batches per pass over the pruning data (authors' code: 160 images in batches of 16)."""
    batch: int = 16
    patch: int = 48
    """Side of a patch in LR pixels."""
    channels_per_step: int = 1
    """Channels taken up after each pass; more is faster and less exact."""
    learning_rate: float = 5e-5
    """Of the SGD that adjusts the channels taken up so far."""
    gamma: float = 1.0
    """Weight of the dual regression loss, next to the feature loss (paper: 1)."""
    dual_weight: float = 0.1
    """Lambda inside the dual regression loss."""
    refit: bool | None = None
    """Whether "drc" and "dcp" bring the weights of all channels taken up to the least feature loss before each pass;
    the papers have the pass of gradient descent alone. None: "drc" does, and "dcp" does not."""
    seed: int = 1
    target_images: TargetImages = "photographs"
    """What outputs are compared with."""

    def __post_init__(self) -> None:
        """Refuse options that cannot be run."""
        check_counts(self, "batches", "batch", "patch", "channels_per_step")
        check_not_negative(self, "learning_rate", "gamma", "dual_weight")
        known = get_args(PruneMethod)
        if self.method not in known:
            raise UsageError(f"there is no pruning method {self.method!r}.", f"Choose one of {', '.join(known)}.")
        if self.refit is not None and self.method not in ("drc", "dcp"):
            raise UsageError(f"{self.method} has one way to adjust weights.", "Leave out --refit and --no-refit.")

    @property
    def refits(self) -> bool:
        """Whether weights are refitted, the method's own choice included."""
        return self.method == "drc" if self.refit is None else self.refit
