"""Costs are what counting a network that was really built gives."""

import random
from typing import get_args

import pytest

from drc_deploy.errors import UsageError
from drc_deploy.latency_table import LatencyTable
from drc_deploy.models.network import ModelSpec, SRNetwork, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.train.cost import budget_for, cost_model
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
        assert cost.total(widths) == pytest.approx(
            count(build_network(ModelSpec(name, scale, widths)), target), abs=0.5
        )
    assert budget_for(cost, full, 0.25).limit == pytest.approx(0.75 * cost.total(full))


def test_latency_is_looked_up_between_the_measured_widths() -> None:
    layers = tuple(layer.name for layer in build_network(ModelSpec("drn_xs", 4)).prunable_layers)
    points = (((4, 1.0), (8, 2.0)),) * len(layers)
    cost = cost_model(
        ModelSpec("drn_xs", 4), "latency", LatencyTable("drn_xs", 4, "a", "b", 180, 320, 10.0, layers, points)
    )
    assert cost.total([6] * len(layers)) == pytest.approx(10 + 1.5 * len(layers))
    assert cost.unit == "ms"


def test_what_has_no_cost_of_the_network_is_refused() -> None:
    assert set(get_args(Target)) == {"channels", "params", "madds", "latency"}
    with pytest.raises(UsageError, match="latency table"):
        cost_model(ModelSpec("drn_xs", 4), "latency")
    with pytest.raises(UsageError, match="layer by layer"):
        cost_model(ModelSpec("drn_xs", 4), "channels")
