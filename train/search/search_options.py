"""How a search for widths runs."""

from dataclasses import dataclass
from typing import Literal, get_args

from drc_deploy.errors import UsageError
from drc_deploy.train.loop.limits import check_counts, check_not_negative
from drc_deploy.train.search.candidates import check_ratio
from drc_deploy.widths import Target

SearchMethod = Literal["drc", "darts-shared", "darts", "random", "uniform"]
"""The paper's search; without importance; without shared weights either; or no search at all (paper, Table 4)."""
PAPER_TRAVEL = 2500 * 3e-4
"""Steps times learning rate of the logits in the authors' code: how far a logit can get, before annealing."""
BUDGET_TRAVEL = 8.0
"""The same where the network as a whole is bounded: widths then follow the softmax itself, not only its maximum, and
must be able to come near the ends of their range (docs/results.md)."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How the search runs. Defaults follow the paper and its code."""

    ratio: float = 0.3
    """Share to remove of what ``target`` names."""
    steps: int = 2500
    """Updates of the logits, each followed by one of the weights (the authors' code: 2500)."""
    batch: int = 16
    patch: int = 48
    """Side of a patch in LR pixels."""
    round_to: int = 4
    """Widths are multiples of this."""
    method: SearchMethod = "drc"
    target: Target = "channels"
    """What the ratio bounds."""
    order: Literal[1, 2] = 1
    """1: the validation loss at the present weights; 2: at those after a virtual step of training."""
    weight_learning_rate: float = 1e-4
    alpha_learning_rate: float | None = None
    """Of the logits; None: what lets them get as far in these steps as in the authors' 2500 of 3e-4."""
    dual_weight: float = 0.1
    """Lambda, the weight of the dual part of the loss; 0 searches without duals."""
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse options that cannot be run."""
        check_ratio(self.ratio)
        check_counts(self, "steps", "batch", "patch", "round_to")
        check_not_negative(self, "weight_learning_rate", "dual_weight")
        if self.alpha_learning_rate is not None:
            check_not_negative(self, "alpha_learning_rate")
        for name, known in (("method", get_args(SearchMethod)), ("target", get_args(Target)), ("order", (1, 2))):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"there is no {name} {getattr(self, name)!r} of a search.",
                    f"Choose one of {', '.join(map(str, known))}.",
                )

    @property
    def alpha_rate(self) -> float:
        """Learning rate of the logits before annealing."""
        if self.alpha_learning_rate is not None:
            return self.alpha_learning_rate
        return (PAPER_TRAVEL if self.target == "channels" else BUDGET_TRAVEL) / self.steps
