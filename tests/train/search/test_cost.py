"""Costs are what counting a network that was really built gives."""

import dataclasses
import random
from typing import get_args

import pytest
import torch

from drc_deploy.errors import UsageError
from drc_deploy.latency_table import LatencyTable
from drc_deploy.models.network import ModelSpec, SRNetwork, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.train.search.cost import budget_for, cost_model
from drc_deploy.widths import Target


def count(network: SRNetwork, target: Target) -> int:
    return multiply_adds(network) if target == "madds" else network.parameter_count


@pytest.mark.parametrize(("name", "scale"), [("drn_xs", 4), ("drn_xs", 8), ("drn_s", 4), ("drn_s", 8)])
@pytest.mark.parametrize("target", ["params", "madds"])
def test_costs_are_exact_for_any_widths(name: str, scale: int, target: Target) -> None:
    chance = random.Random(3)
    cost = cost_model(ModelSpec(name, scale), target)
    full = [layer.full_width for layer in build_network(ModelSpec(name, scale)).prunable_layers]
    for _ in range(2):
        widths = tuple(chance.randint(1, width) for width in full)
        assert cost.total(widths) == count(build_network(ModelSpec(name, scale, widths)), target)
    assert budget_for(cost, full, 0.25).limit == pytest.approx(0.75 * cost.total(full))


def table(points: tuple[tuple[tuple[int, float], ...], ...] | None = None) -> LatencyTable:
    layers = build_network(ModelSpec("drn_xs", 4)).prunable_layers
    points = points or tuple(((4, 1.0), (layer.full_width, 2.0)) for layer in layers)
    names = tuple(layer.name for layer in layers[: len(points)])
    return LatencyTable("drn_xs", 4, "a", "b", 180, 320, 10.0, names, points)


def test_latency_is_looked_up_between_the_measured_widths() -> None:
    cost = cost_model(ModelSpec("drn_xs", 4), "latency", table())
    full = [layer.full_width for layer in build_network(ModelSpec("drn_xs", 4)).prunable_layers]
    assert cost.total([(4 + width) // 2 for width in full]) == pytest.approx(10 + 1.5 * len(full))
    assert cost.total(full) == pytest.approx(10 + 2 * len(full))
    assert cost.unit == "ms"


def test_layers_that_meet_in_a_weight_share_its_time() -> None:
    """Where time is that of the products, a network of any widths takes the share of products that it has left."""
    spec = ModelSpec("drn_es", 4)
    full = build_network(spec)
    layers, sizes = full.prunable_layers, {name: p.numel() for name, p in full.named_parameters()}
    seen = [32 / full.get_parameter(layer.read[0].tensor).shape[1] for layer in layers]
    of_pairs = [
        sizes[layer.made[0].tensor] + share * sizes[layer.read[0].tensor]
        for layer, share in zip(layers, seen, strict=True)
    ]
    points = tuple(((0, 0.0), (layer.full_width, ms / 1e3)) for layer, ms in zip(layers, of_pairs, strict=True))
    latency = LatencyTable("drn_es", 4, "a", "b", 180, 320, 5.0, tuple(layer.name for layer in layers), points)
    cost, chance = cost_model(spec, "latency", latency), random.Random(4)
    whole = cost.total(full.widths)
    assert whole == pytest.approx(5 + sum(of_pairs) / 1e3)
    for _ in range(3):
        widths = tuple(chance.randint(1, 32) for _ in layers)
        narrow = build_network(dataclasses.replace(spec, widths=widths))
        products = [sum(p.numel() for p in each.parameters() if p.dim() == 4) for each in (narrow, full)]
        assert cost.total(widths) - 5 == pytest.approx((whole - 5) * products[0] / products[1])
        one_hot = torch.tensor([[0.0, 1.0]] * len(layers))
        candidates = torch.tensor([[1, width] for width in widths])
        assert float(cost.expectation(candidates)(one_hot)) == pytest.approx(cost.total(widths))


@pytest.mark.parametrize("free", [1, 3, 15])
def test_layers_that_take_no_time_cost_nothing_where_layers_meet(free: int) -> None:
    layers = build_network(ModelSpec("drn_es", 4)).prunable_layers
    points = tuple(((4, 0.0), (layer.full_width, 2.0 * (i >= free))) for i, layer in enumerate(layers))
    latency = LatencyTable("drn_es", 4, "a", "b", 180, 320, 5.0, tuple(layer.name for layer in layers), points)
    cost, full = cost_model(ModelSpec("drn_es", 4), "latency", latency), [layer.full_width for layer in layers]
    assert cost.total(full) == pytest.approx(5 + 2 * (len(layers) - free))
    assert cost.total([1] * free + full[free:]) == pytest.approx(cost.total(full))


def test_tables_of_other_layers_are_refused() -> None:
    for points in (table().points[:3], (((4, 1.0), (9, 2.0)),) * 12):
        with pytest.raises(UsageError, match="does not hold the layers"):
            cost_model(ModelSpec("drn_xs", 4), "latency", table(points))


@pytest.mark.parametrize("bad", [((4, 2.0), (8, 1.0)), ((8, 1.0), (4, 2.0)), ((4, float("nan")), (8, 1.0)), ()])
def test_tables_that_make_no_sense_are_refused(bad: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="no table"):
        table((bad,))
    with pytest.raises(ValueError, match="fixed time"):
        dataclasses.replace(table(), fixed_ms=-1.0)


def test_what_has_no_cost_of_the_network_is_refused() -> None:
    assert set(get_args(Target)) == {"channels", "params", "madds", "latency"}
    with pytest.raises(UsageError, match="latency table"):
        cost_model(ModelSpec("drn_xs", 4), "latency")
    with pytest.raises(UsageError, match="layer by layer"):
        cost_model(ModelSpec("drn_xs", 4), "channels")
