"""Keeping a mixture of candidate widths at a bound on its expected cost."""

import numpy as np
import torch
from torch import Tensor

from drc_deploy.train.search.cost import CostBudget
from drc_deploy.train.search.selection import check_reachable, choose_widths, spend_rest

FEEDBACK = 10.0
"""How strongly cost pulls: at a violation of one part in this many, as strongly as the loss."""


class ExpectedCost:
    """The expected cost E(alpha), where each layer draws its width by softmax(alpha), under a limit.

    Minimising the loss under E <= limit moves the logits along -(g + mu c), where g is the gradient of the loss and c
    that of E. The multiplier that makes E change by -k v, for a violation v = E / limit - 1, follows from
    <c, g + mu c> = k v |g| |c|:

        mu = (k v |g| |c| - <c, g>) / <c, c>, but at least 0.

    What is left of g trades channels between layers: where the loss falls more per cost than elsewhere, layers widen.

    Raises:
        UsageError: not even the cheapest candidates are within the limit.
    """

    def __init__(self, candidates: Tensor, budget: CostBudget, *, round_to: int) -> None:
        self._budget, self._round_to = budget, round_to
        self._candidates = candidates.tolist()
        # Refuses what cannot be met, before anything is trained.
        check_reachable([min(row) for row in self._candidates], budget)
        self._rows, self._expectation = candidates, budget.cost.expectation(candidates)

    def relative(self, alphas: Tensor) -> Tensor:
        """Return E / limit, a scalar."""
        shares = torch.softmax(alphas, dim=1)
        return (self._expectation(shares) / self._budget.limit).to(alphas.dtype)

    def starting_logits(self) -> Tensor:
        """Return the logits of the mixture nearest to an even one whose expected cost is the limit.

        All layers alike prefer narrow candidates, or wide ones: logits are linear in the rank of the width.
        """
        ranks = torch.linspace(-1, 1, self._rows.shape[1], device=self._rows.device).expand(self._rows.shape)
        low, high = -50.0, 50.0
        for _ in range(60):
            middle = (low + high) / 2
            if self.relative(middle * ranks) > 1:
                high = middle
            else:
                low = middle
        return low * ranks

    def constrained(self, gradient: Tensor, alphas: Tensor) -> Tensor:
        """Return g + mu c."""
        with torch.enable_grad():
            variables = alphas.detach().requires_grad_()
            relative = self.relative(variables)
            (c,) = torch.autograd.grad(relative, variables)
        pull = FEEDBACK * (relative.detach() - 1) * gradient.norm() * c.norm()
        mu = (pull - (c * gradient).sum()) / c.square().sum().clamp(min=1e-30)
        priced: Tensor = mu.clamp(min=0) * c
        return gradient + priced

    def widths(self, probabilities: Tensor) -> list[int]:
        """Return the widths within the limit that are nearest to the expected ones.

        The nearest have the least sum of squared distances, each relative to the layer's widest candidate, among all
        multiples between the narrowest and the widest. What rounding leaves of the limit is spent where it is missed
        most.
        """
        chances = probabilities.double().cpu().numpy()
        expected = [float(np.dot(row, chance)) for row, chance in zip(self._candidates, chances, strict=True)]
        most = [max(row) for row in self._candidates]
        choices = [
            sorted({*range(min(row), widest, self._round_to), widest})
            for row, widest in zip(self._candidates, most, strict=True)
        ]
        values = [
            [-(((width - wanted) / widest) ** 2) for width in row]
            for row, wanted, widest in zip(choices, expected, most, strict=True)
        ]
        nearest = choose_widths(values, choices, self._budget)
        return spend_rest(nearest, expected, most, self._budget, self._round_to)
