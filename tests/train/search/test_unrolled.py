"""The difference quotient is the second derivative that autograd computes exactly."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from drc_deploy.checkpoint import Checkpoint, load_checkpoint
from drc_deploy.locate import SHIPPED
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.device import place_images
from drc_deploy.train.search import supernet
from drc_deploy.train.search.gates import ranked
from drc_deploy.train.search.search_options import Importance, SearchOptions
from drc_deploy.train.search.searcher import Searcher
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


@pytest.fixture
def trained() -> Checkpoint:
    return load_checkpoint(SHIPPED / "drn_xs.safetensors")


def batches(photographs: Photographs, count: int) -> list[list[Tensor]]:
    patches = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1)
    return [place_images(patches.sample(step)) for step in range(count)]


@pytest.mark.parametrize("importance", get_args(Importance))
def test_no_channel_changes_places_within_an_update(
    importance: Importance, trained: Checkpoint, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The difference quotient moves the weights; it must not see other candidates on its two sides."""
    options = SearchOptions(0.3, steps=9, order=2, importance=importance)
    search = Searcher(trained.build_network(), trained.build_duals(), options)
    places: list[list[int]] = []

    def seen(values: Tensor) -> Tensor:
        rank = ranked(values)
        places.append(rank.tolist())
        return rank

    monkeypatch.setattr(supernet, "ranked", seen)
    training, validation = batches(photographs, 2)
    orders = []
    for _ in range(2):
        search.update(training, validation)
        layers = len(search.supernet.candidates)
        passes = [places[start : start + layers] for start in range(0, len(places), layers)]
        assert len(passes) == 5  # at w, at w', at both sides, and that which trains the weights
        assert all(ranks == passes[0] for ranks in passes)
        orders.append(passes[0])
        places.clear()
    assert orders[0] != orders[1] or importance == "l1"


def test_importance_is_a_mean_over_batches(trained: Checkpoint, photographs: Photographs) -> None:
    network = trained.build_network()
    search = Searcher(network, trained.build_duals(), SearchOptions(0.3, target="madds"))
    mixtures, (first, second) = search.supernet, batches(photographs, 2)
    alone = []
    for images in (first, second):
        mixtures.rank(images)
        alone.append(mixtures.importance.clone())
    mixtures.rank(first)
    with torch.no_grad():
        mixtures.alphas[:, -1] = 100  # all channels stay, as where they were ranked alone
        with mixtures.rating():
            mixtures(second)
    mixtures.rank_anew(0.25)
    torch.testing.assert_close(mixtures.importance, 0.75 * alone[0] + 0.25 * alone[1])


def test_the_papers_importance_is_the_norm_of_weights(trained: Checkpoint, photographs: Photographs) -> None:
    network = trained.build_network()
    search = Searcher(network, trained.build_duals(), SearchOptions(0.3, importance="l1"))
    search.supernet.rank(batches(photographs, 1)[0])
    expected = [
        sum(float(network.convolution(part.module).weight.detach()[:, channel].abs().sum()) for part in layer.read)
        for layer in network.prunable_layers
        for channel in range(layer.full_width)
    ]
    torch.testing.assert_close(search.supernet.importance, torch.tensor(expected))
