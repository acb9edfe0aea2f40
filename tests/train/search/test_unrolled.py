"""The difference quotient is the second derivative that autograd computes exactly."""

import torch
from torch import Tensor, nn

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.search.search import Searcher
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.unrolled import unrolled_gradient


class Toy(nn.Module):
    """A small smooth network with mixing logits, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6).double(), nn.Linear(6, 2).double()
        self.alphas = nn.Parameter(torch.randn(6, dtype=torch.float64))

    def loss(self, weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        a, b, c, d = weights
        hidden = torch.tanh(x @ a.T + b) * torch.softmax(self.alphas, 0)
        return ((hidden @ c.T + d - y) ** 2).mean()


def test_second_order_agrees_with_autograd() -> None:
    toy, rate = Toy(), 0.3
    weights: list[Tensor] = [*toy.first.parameters(), *toy.second.parameters()]
    before = [weight.detach().clone() for weight in weights]
    data = [torch.randn(8, n, dtype=torch.float64) for n in (4, 2, 4, 2)]
    answer = torch.autograd.grad(toy.loss(weights, *data[:2]), weights, create_graph=True)
    moved = [weight - rate * gradient for weight, gradient in zip(weights, answer, strict=True)]
    (exact,) = torch.autograd.grad(toy.loss(moved, *data[2:]), toy.alphas)
    first_order = torch.autograd.grad(toy.loss(weights, *data[2:]), toy.alphas)[0]
    found = unrolled_gradient(
        lambda: toy.loss(weights, *data[:2]), lambda: toy.loss(weights, *data[2:]), toy.alphas, weights, rate
    )
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-7)
    assert (found - exact).norm() < 1e-2 * (first_order - exact).norm()
    for weight, start in zip(weights, before, strict=True):
        assert torch.equal(weight, start)


def test_duals_are_among_the_weights_that_answer() -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    duals = network.build_duals()
    search = Searcher(network, duals, SearchOptions(steps=1))
    known = {id(weight) for weight in search.weights}
    assert all(id(parameter) in known for parameter in duals.parameters())
