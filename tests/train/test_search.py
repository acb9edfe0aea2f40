"""The search follows the loss, keeps its halves apart, and resumes exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch

from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.compress import search_file
from drc_deploy.train.patches import PatchSampler
from drc_deploy.train.photographs import Photographs
from drc_deploy.train.search import Searcher, SearchOptions, search_widths
from drc_deploy.widths import read_widths
from tests.train.interruption import interrupt_after

OPTIONS = SearchOptions(steps=4, batch=2, patch=8)


def searcher(options: SearchOptions = OPTIONS) -> Searcher:
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    return Searcher(network, network.build_duals(), options)


def test_result_fits_the_model_and_the_bound(photographs: Photographs, tmp_path: Path) -> None:
    widths = search_widths(searcher(), photographs, tmp_path / "s", inputs={})
    assert len(widths) == 12
    assert widths[0] == 4
    assert all(w in (12, 16, 20) for w in widths[2:])
    build_network(ModelSpec("drn_xs", 4, tuple(widths)))


def test_ties_go_to_the_widest_candidate() -> None:
    assert searcher().widths() == [4, 12] + [20] * 10


def test_logits_find_the_candidate_that_brute_force_finds(photographs: Photographs) -> None:
    """With the weights held still, the winner is the width whose own loss is least."""
    options = SearchOptions(steps=40, batch=4, patch=8, alpha_learning_rate=0.2, weight_learning_rate=0.0)
    search = searcher(options)
    layer = 10
    consumer = search.network.convolution(search.network.prunable_layers[layer].consumer)
    with torch.no_grad():
        consumer.weight.mul_(30)  # so that this layer decides
    images = PatchSampler(photographs, scale=4, patch=8, batch=4, seed=5).sample(0)
    losses = {}
    for index in (0, 2, 4):
        with torch.no_grad():
            search.alphas[layer].zero_()
            search.alphas[layer][index] = 50.0
            losses[int(search.candidates[layer][index])] = float(search._loss(images))
    with torch.no_grad():
        search.alphas[layer].zero_()
    for _ in range(40):
        search.update(images, images)
    assert search.widths()[layer] == min(losses, key=lambda width: losses[width])


def test_an_interrupted_search_ends_with_the_same_widths_and_logits(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped, resumed = searcher(), searcher(), searcher()
    search_widths(straight, photographs, tmp_path / "a", inputs={})
    with monkeypatch.context() as patch:
        interrupt_after(patch, Searcher, "update", 2)
        with pytest.raises(KeyboardInterrupt):
            search_widths(stopped, photographs, tmp_path / "b", inputs={})
    search_widths(resumed, photographs, tmp_path / "b", inputs={})
    assert resumed.step == straight.step == 4
    for a, b in zip(straight.alphas, resumed.alphas, strict=True):
        assert torch.equal(a, b)


def test_the_file_can_be_read_back_for_its_model(parent: Path, photographs: Photographs, tmp_path: Path) -> None:
    found = search_file(parent, photographs, OPTIONS, tmp_path / "x.widths.json")
    assert read_widths(tmp_path / "x.widths.json", model="drn_xs", scale=4) == found.widths
    assert found.layers[:3] == ("down0", "down1", "stage0.block0")


def test_one_photograph_is_too_few(photographs: Photographs, tmp_path: Path) -> None:
    single = photographs.subset(photographs.entries[:1])
    with pytest.raises(TrainingError, match="at least 2 photographs"):
        search_widths(searcher(), single, tmp_path / "s", inputs={})


@pytest.mark.parametrize("ratio", [-0.1, 0.0, 1.0, 1.5, float("nan")])
def test_ratios_outside_zero_and_one_are_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="not between 0 and 1"):
        SearchOptions(ratio=ratio)


@pytest.mark.parametrize("options", [{"round_to": 10**9}, {"ratio": 1e-12, "round_to": 32}])
def test_a_search_that_could_narrow_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no layer of this network can become narrower"):
        searcher(SearchOptions(steps=1, **options))
