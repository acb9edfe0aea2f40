"""The mixture stays at its limit, and gives channels to the layers that need them."""

import numpy as np
import pytest
import torch

from drc_deploy.errors import UsageError
from drc_deploy.train.search.cost import CostBudget, ProductOfWidths, SumOfLayers
from drc_deploy.train.search.expected_cost import ExpectedCost

CANDIDATES = torch.tensor([[4, 8, 16, 24, 32]] * 4)
COST = SumOfLayers("multiply-adds", 10.0, (((0, 0.0), (32, 32.0)),) * 3 + (((0, 0.0), (32, 128.0)),))


def loss(alphas: torch.Tensor, needs: torch.Tensor) -> torch.Tensor:
    """Each layer loses in proportion to its need, less and less as it widens."""
    shares = torch.softmax(alphas, 1) @ (CANDIDATES[0] / 32.0)
    return (needs * (1 - shares) ** 2).sum()


def test_the_mean_over_a_chain_is_that_of_all_choices() -> None:
    """3 -> a -> b -> 3 channels: the mean over every pair of candidates, weighted by their chances."""
    cost = ProductOfWidths(
        "parameters",
        np.array([9.0, 9, 1]),
        (
            (np.array([3.0, 0, 0]), np.array([[0.0, 0], [1, 0], [0, 1]])),
            (np.array([0.0, 0, 3]), np.array([[1.0, 0], [0, 1], [0, 0]])),
        ),
    )
    shares, candidates = torch.softmax(torch.randn(2, 3), 1), torch.tensor([[2, 5, 9], [1, 4, 8]])
    mean = sum(
        float(p * q) * (27 * a + 9 * a * b + 3 * b)
        for p, a in zip(shares[0], candidates[0].tolist(), strict=True)
        for q, b in zip(shares[1], candidates[1].tolist(), strict=True)
    )
    assert float(cost.expectation(candidates)(shares)) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("limit", [60.0, 120.0, 200.0])
def test_the_start_is_at_the_limit(limit: float) -> None:
    cost = ExpectedCost(CANDIDATES, CostBudget(COST, limit, 234.0), round_to=4)
    assert float(cost.relative(cost.starting_logits())) == pytest.approx(1, abs=1e-4)


def test_the_limit_is_kept_and_needs_are_met() -> None:
    cost = ExpectedCost(CANDIDATES, CostBudget(COST, 120.0, 234.0), round_to=4)
    needs = torch.tensor([9.0, 3.0, 1.0, 3.0])
    alphas = cost.starting_logits().clone().requires_grad_()
    optimizer = torch.optim.Adam([alphas], lr=0.02)
    start = float(loss(alphas.detach(), needs))
    for _ in range(300):
        (gradient,) = torch.autograd.grad(loss(alphas, needs), alphas)
        alphas.grad = cost.constrained(gradient, alphas)
        optimizer.step()
    assert float(cost.relative(alphas.detach())) == pytest.approx(1, abs=0.02)
    assert float(loss(alphas.detach(), needs)) < 0.8 * start
    widths = cost.widths(torch.softmax(alphas.detach(), 1))
    assert COST.total(widths) <= 120
    # The last layer needs as much as the second, but costs four times as much.
    assert widths[0] >= widths[1] >= widths[2]
    assert widths[1] > widths[3]


def test_without_pressure_the_loss_alone_decides() -> None:
    cost = ExpectedCost(CANDIDATES, CostBudget(COST, 1000.0, 234.0), round_to=4)
    gradient = torch.randn(4, 5)
    assert torch.equal(cost.constrained(gradient, torch.zeros(4, 5)), gradient)


def test_an_impossible_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="nearest that can be reached is 38"):
        ExpectedCost(CANDIDATES, CostBudget(COST, 30.0, 234.0), round_to=4)
