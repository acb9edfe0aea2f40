"""How a search for widths runs, and which widths a layer may be given."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from drc_deploy.errors import UsageError
from drc_deploy.train.loop.limits import check_counts, check_not_negative
from drc_deploy.train.loop.run_options import TargetImages
from drc_deploy.widths import Target

Cut = Literal["inner", "trunk"]
"""Layers that are made before they are read; or also those that are summed along a residual trunk."""
SearchMethod = Literal["drc", "darts-shared", "darts", "random", "uniform", "by-cost"]
"""The paper's search; without importance; without shared weights either; or no search at all (paper, Table 4). The last
is not of the paper: a rule that a search must be better than."""
RULES: tuple[SearchMethod, ...] = ("uniform", "by-cost")
"""Those that narrow every layer as far as it takes; searches and random widths keep to candidates."""
WITHOUT_SEARCH: tuple[SearchMethod, ...] = ("random", *RULES)
Importance = Literal["energy", "l1"]
"""What ranks channels: what they add to the output (docs/results.md), or the L1 norm of weights (paper, 3.2.1)."""
PAPER_TRAVEL = 2500 * 3e-4
"""Steps times learning rate of the logits in the authors' code: how far a logit can get, before annealing."""
BUDGET_TRAVEL = 8.0
"""The same where the network as a whole is bounded: widths then follow the softmax itself, not only its maximum, and
must be able to come near the ends of their range (docs/results.md)."""
CANDIDATE_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidate widths as shares of the width that the ratio allows (paper, Section 4.1)."""
SHARES_UNDER_A_BUDGET = 8
"""Number of candidates where the network as a whole is bounded: some layers may then stay wide."""


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
    importance: Importance = "energy"
    """For the method "drc": which channels a candidate keeps."""
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
    target_images: TargetImages = "photographs"
    """What outputs are compared with."""
    cut: Cut = "inner"

    def __post_init__(self) -> None:
        """Refuse options that cannot be run."""
        if not 0 < self.ratio < 1:
            raise UsageError(
                f"a ratio of {self.ratio} is not between 0 and 1.", "0.3 removes about a third of the channels."
            )
        check_counts(self, "steps", "batch", "patch", "round_to")
        check_not_negative(self, "weight_learning_rate", "dual_weight")
        if self.alpha_learning_rate is not None:
            check_not_negative(self, "alpha_learning_rate")
        choices = {
            "method": SearchMethod,
            "importance": Importance,
            "target": Target,
            "target_images": TargetImages,
            "cut": Cut,
            "order": Literal[1, 2],
        }
        for name, known in ((name, get_args(kind)) for name, kind in choices.items()):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"there is no {name} {getattr(self, name)!r} of a search.",
                    f"Choose one of {', '.join(map(str, known))}.",
                )

        if self.method == "by-cost" and self.target == "channels":
            raise UsageError(
                "by-cost needs a bound on the network as a whole.", "Give --target madds, params or latency."
            )

    @property
    def alpha_rate(self) -> float:
        """Learning rate of the logits before annealing."""
        if self.alpha_learning_rate is not None:
            return self.alpha_learning_rate
        return (PAPER_TRAVEL if self.target == "channels" else BUDGET_TRAVEL) / self.steps


def ratio_tag(ratio: float) -> str:
    """Name a ratio in file names, a different one for each: ``r30`` for 0.3, ``r30_4`` for 0.304."""
    percent, _, fraction = f"{100 * ratio:.8g}".partition(".")
    return f"r{percent:>02}" + (f"_{fraction}" if fraction else "")


def candidate_widths(full: int, ratio: float, round_to: int = 4, target: Target = "channels") -> list[int]:
    """Return the candidate widths of a layer of ``full`` channels, narrow to wide; duplicates are kept.

    Shares of ``full``, rounded to a multiple of ``round_to`` (ties down), at least ``round_to`` and at most ``full``.
    The rounding is the authors' code's; the paper has none. Under a bound on channels the shares are the paper's,
    below 1 - ratio. Under a bound on the whole network they go on up to the full width.
    """
    if target == "channels":
        shares = [(1 - ratio) * share for share in CANDIDATE_SHARES]
    else:
        least, steps = 0.5 * (1 - ratio), SHARES_UNDER_A_BUDGET - 1
        shares = [least + (1 - least) * i / steps for i in range(SHARES_UNDER_A_BUDGET)]
    return [_rounded(full, share, round_to) for share in shares]


def _rounded(full: int, share: float, round_to: int) -> int:
    width = math.floor(full * share + 1e-9)  # 0.7 * 10 is 6.999... in floating point
    remainder = width % round_to
    width += round_to - remainder if 2 * remainder > round_to else -remainder
    return min(max(width, round_to), full)
