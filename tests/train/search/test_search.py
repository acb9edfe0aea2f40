"""The search follows the loss, keeps its halves apart, and resumes exactly."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, Parent
from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.search.cost import budget_for, cost_model
from drc_deploy.train.search.search import KeptSearch, open_halves, search_widths
from drc_deploy.train.search.search_file import SearchInputs, search_file
from drc_deploy.train.search.search_options import SearchMethod, SearchOptions
from drc_deploy.train.search.searcher import Searcher
from drc_deploy.widths import Target, read_widths
from tests.train.interruption import interrupt_after

OPTIONS = SearchOptions(steps=4, batch=2, patch=8)


def searcher(options: SearchOptions = OPTIONS) -> Searcher:
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    return Searcher(network, network.build_duals(), options)


def found_widths(search: Searcher, photographs: Photographs, state: Path) -> list[int]:
    with open_halves(photographs, Checkpoint.of(search.supernet.network), search.options) as halves:
        search_widths([KeptSearch(search, state, asdict(search.options))], halves)
    return search.widths()


@pytest.mark.parametrize("fused", [False, True])
def test_updates_after_a_resume_are_the_same_with_fused_adam(
    fused: bool, photographs: Photographs, tmp_path: Path
) -> None:
    """On a GPU Adam is fused: it reads the moments number by number, in the order of the weights in memory."""

    def begun() -> Searcher:
        search = searcher(replace(OPTIONS, weight_learning_rate=1e-3))
        search.weight_optimizer.param_groups[0]["fused"] = fused
        return search

    sampler = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=3)
    batches = [(sampler.sample(step), sampler.sample(step + 9)) for step in range(4)]
    straight, killed, resumed = begun(), begun(), begun()
    for pair in batches:
        straight.update(*pair)
    for pair in batches[:2]:
        killed.update(*pair)
    KeptSearch(killed, tmp_path / "s", {}).save()
    KeptSearch(resumed, tmp_path / "s", {}).go_on()
    for pair in batches[2:]:
        resumed.update(*pair)
    for one, other in zip(straight.weights, resumed.weights, strict=True):
        assert torch.equal(one, other)


def test_gradients_lie_in_memory_as_their_weights_do(photographs: Photographs) -> None:
    """Fused Adam refuses others; those of a parameter that no convolution reads come as autograd made them."""
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    network.extra = torch.nn.Parameter(torch.ones(2, 3, 4, 5))
    network.register_forward_pre_hook(lambda _module, images: (images[0] * network.extra.flatten()[7],))
    search = Searcher(network, network.build_duals(), OPTIONS)
    sampler = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=3)
    search.update(sampler.sample(0), sampler.sample(1))
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None or p.grad.stride() != p.stride()] == []
    assert network.extra.stride() == (60, 1, 15, 3)


def test_result_fits_the_model_and_the_bound(photographs: Photographs, tmp_path: Path) -> None:
    widths = found_widths(searcher(), photographs, tmp_path / "s")
    assert len(widths) == 12
    assert widths[0] == 4
    assert all(w in (12, 16, 20) for w in widths[2:])
    build_network(ModelSpec("drn_xs", 4, tuple(widths)))


def test_ties_go_to_the_widest_candidate() -> None:
    assert searcher().widths() == [4, 12] + [20] * 10


def test_logits_find_the_candidate_that_brute_force_finds(photographs: Photographs) -> None:
    """With the weights held still, the winner is the width whose own loss is least."""
    options = SearchOptions(steps=20, batch=4, patch=8, alpha_learning_rate=0.2, weight_learning_rate=0.0)
    search = searcher(options)
    layer = 10
    consumer = search.supernet.network.convolution(search.supernet.network.prunable_layers[layer].read[0].module)
    with torch.no_grad():
        consumer.weight.mul_(30)  # so that this layer decides
    images = PatchSampler(photographs, scale=4, patch=8, batch=4, seed=5).sample(0)
    search.supernet.rank(images)
    losses = {}
    for index in (0, 2, 4):
        with torch.no_grad():
            search.alphas[layer].zero_()
            search.alphas[layer][index] = 50.0
            losses[int(search.supernet.candidates[layer][index])] = float(search.supernet(images))
    with torch.no_grad():
        search.alphas[layer].zero_()
    for _ in range(20):
        search.update(images, images)
    best = min(losses, key=lambda width: losses[width])
    logits = {
        int(width): float(logit)
        for width, logit in zip(search.supernet.candidates[layer], search.alphas.detach()[layer], strict=True)
    }
    assert search.widths()[layer] == best
    assert all(logits[best] > logits[width] + 0.5 for width in losses.keys() - {best})  # no tie, which the widest wins


def test_an_interrupted_search_ends_with_the_same_widths_and_logits(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped, resumed = searcher(), searcher(), searcher()
    found_widths(straight, photographs, tmp_path / "a")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Searcher, "update", 2)
        with pytest.raises(KeyboardInterrupt):
            found_widths(stopped, photographs, tmp_path / "b")
    found_widths(resumed, photographs, tmp_path / "b")
    assert resumed.step == straight.step == 4
    for a, b in zip(straight.alphas, resumed.alphas, strict=True):
        assert torch.equal(a, b)


def test_the_file_can_be_read_back_for_its_model(parent: Parent, photographs: Photographs, tmp_path: Path) -> None:
    found = search_file(SearchInputs(parent, photographs), OPTIONS, tmp_path / "x.widths.json")
    assert read_widths(tmp_path / "x.widths.json", model="drn_xs", scale=4) == found.widths
    assert found.layers[:3] == ("down0", "down1", "stage0.block0")


def test_one_photograph_is_too_few(photographs: Photographs, tmp_path: Path) -> None:
    single = replace(photographs, entries=photographs.entries[:1])
    with pytest.raises(TrainingError, match="at least 2 photographs"):
        found_widths(searcher(), single, tmp_path / "s")


@pytest.mark.parametrize("ratio", [-0.1, 0.0, 1.0, 1.5, float("nan")])
def test_ratios_outside_zero_and_one_are_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="not between 0 and 1"):
        SearchOptions(ratio=ratio)


@pytest.mark.parametrize("method", ["drc", "uniform", "random"])
@pytest.mark.parametrize("options", [{"round_to": 10**9}, {"ratio": 1e-12, "round_to": 32}])
def test_a_search_that_could_narrow_nothing_is_refused(
    options: dict[str, Any], method: SearchMethod, parent: Parent, photographs: Photographs, tmp_path: Path
) -> None:
    asked = SearchOptions(steps=1, method=method, **options)
    with pytest.raises(UsageError, match="no layer of this network can become narrower"):
        search_file(SearchInputs(parent, photographs), asked, tmp_path / "x.widths.json")
    assert not (tmp_path / "x.widths.json").exists()


@pytest.mark.parametrize("method", get_args(SearchMethod))
def test_every_method_comes_close_to_the_bound(
    method: SearchMethod, parent: Parent, photographs: Photographs, tmp_path: Path
) -> None:
    """Methods are compared at equal cost: none may be better because it keeps more."""
    options = SearchOptions(0.5, steps=2, batch=2, patch=8, method=method, target="madds")
    found = search_file(SearchInputs(parent, photographs), options, tmp_path / "x.widths.json")
    limit = 0.5 * multiply_adds(build_network(ModelSpec("drn_xs", 4)))
    counted = multiply_adds(build_network(ModelSpec("drn_xs", 4, found.widths)))
    assert 0.95 * limit <= counted <= limit


@pytest.mark.parametrize("method", ["drc", "darts-shared", "darts"])
@pytest.mark.parametrize("order", [1, 2])
def test_every_method_and_order_moves_the_logits(
    photographs: Photographs, method: SearchMethod, order: Literal[1, 2]
) -> None:
    search = searcher(SearchOptions(steps=2, batch=2, patch=8, method=method, order=order))
    images = [PatchSampler(photographs, scale=4, patch=8, batch=2, seed=i).sample(0) for i in (1, 2)]
    search.update(*images)
    assert (search.alphas.abs().sum(dim=1) > 0)[1:].all()  # down0 has one width only
    assert torch.isfinite(search.alphas).all()


def test_own_weights_start_as_the_shared_first_channels_do(photographs: Photographs) -> None:
    images = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1).sample(0)
    losses = [
        searcher(SearchOptions(steps=2, batch=2, patch=8, method=method)).supernet(images)
        for method in ("darts", "darts-shared", "drc")
    ]
    torch.testing.assert_close(losses[0], losses[1])
    assert losses[1] != losses[2]


@pytest.mark.parametrize("target", ["params", "madds"])
@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_a_bound_on_the_network_is_met_closely(
    photographs: Photographs, tmp_path: Path, target: Target, ratio: float
) -> None:
    options = SearchOptions(ratio, 6, 2, 8, target=target)
    cost = cost_model(ModelSpec("drn_xs", 4), target)
    network = build_network(ModelSpec("drn_xs", 4))
    budget = budget_for(cost, network.widths, ratio)
    search = Searcher(network, network.build_duals(), options, budget)
    widths = found_widths(search, photographs, tmp_path / "s")
    small = build_network(ModelSpec("drn_xs", 4, tuple(widths)))
    reached = multiply_adds(small) if target == "madds" else small.parameter_count
    assert 0.97 * budget.limit <= reached <= budget.limit


def test_a_search_without_duals_has_none() -> None:
    assert len(searcher(SearchOptions(steps=1, dual_weight=0)).supernet.duals) == 0


def test_logits_that_are_no_numbers_are_found(photographs: Photographs, tmp_path: Path) -> None:
    search = searcher()
    with torch.no_grad():
        search.alphas[3, 2] = float("nan")
    with pytest.raises(TrainingError, match="search loss became nan"):
        found_widths(search, photographs, tmp_path / "s")
