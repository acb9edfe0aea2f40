"""Widths without a search: known shares, and bounds that are met closely."""

import itertools
from collections.abc import Sequence

import pytest

from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.train.search.cost import CostBudget, SumOfLayers, budget_for, cost_model
from drc_deploy.train.search.plain_widths import random_widths, uniform_widths, widths_within
from drc_deploy.train.search.search_options import candidate_widths

SPEC = ModelSpec("drn_s", 4)
FULL = [layer.full_width for layer in build_network(SPEC).prunable_layers]


def budget(ratio: float) -> CostBudget:
    return budget_for(cost_model(SPEC, "madds"), FULL, ratio)


def test_unrounded_they_are_the_manual_design_of_the_paper() -> None:
    network = build_network(ModelSpec("drn_s", 4, tuple(uniform_widths(FULL, FULL, 0.3, [1] * 64))))
    assert network.widths == (12, 23, *(45,) * 62)
    assert round(network.parameter_count / 1e6, 1) == 3.4
    assert round(multiply_adds(network) / 1e9, 1) == 77.4


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("round_to", [4, 8])
def test_a_budget_is_met_to_one_percent(ratio: float, round_to: int) -> None:
    limit = budget(ratio)
    for widths in (
        *(widths_within(FULL, FULL, limit, [round_to] * 64, by_cost=by_cost) for by_cost in (False, True)),
        random_widths([sorted(set(candidate_widths(c, ratio, round_to, "madds"))) for c in FULL], limit, 1),
    ):
        assert 0.99 * limit.limit <= limit.cost.total(widths) <= limit.limit
        assert all(width % round_to == 0 for width in widths)


@pytest.mark.parametrize("ratio", [0.3, 0.4, 0.5, 0.6, 0.7])
def test_no_layer_can_be_widened_any_more(ratio: float) -> None:
    """On a small network, where a step of a costly layer is several percent."""
    spec = ModelSpec("drn_xs", 4)
    full = build_network(spec).widths
    limit = budget_for(cost_model(spec, "madds"), full, ratio)
    widths = widths_within(full, full, limit, [4] * len(full), by_cost=False)
    for index, width in enumerate(widths):
        wider = [*widths[:index], width + 4, *widths[index + 1 :]]
        assert width == full[index] or limit.cost.total(wider) > limit.limit


def test_uniform_widths_are_uniform() -> None:
    widths = widths_within(FULL, FULL, budget(0.5), [4] * 64, by_cost=False)
    shares = [width / full for width, full in zip(widths[2:], FULL[2:], strict=True)]
    assert max(shares) - min(shares) <= 8 / 64  # one step of rounding, and one of what it left


def test_where_harm_is_the_inverse_of_shares_those_by_cost_do_the_least() -> None:
    """As Lagrange's multiplier has it, up to rounding: less than uniform widths, and than any exchange of channels."""
    limit = budget(0.5)

    def harm(widths: Sequence[int]) -> float:
        return sum(full / width for full, width in zip(FULL, widths, strict=True))

    chosen = widths_within(FULL, FULL, limit, [1] * 64, by_cost=True)
    assert harm(chosen) < 0.98 * harm(widths_within(FULL, FULL, limit, [1] * 64, by_cost=False))
    for wider, narrower in itertools.permutations(range(2, 64, 7), 2):
        other = list(chosen)
        other[wider] = min(FULL[wider], other[wider] + 4)
        while limit.cost.total(other) > limit.limit:
            other[narrower] -= 1
        assert harm(other) > 0.999 * harm(chosen)


def test_layers_that_cost_nothing_keep_all_their_channels() -> None:
    """As by a table of latency in which all widths of a layer take as long."""
    flat = CostBudget(SumOfLayers("ms", 1.0, (((4, 2.0), (64, 2.0)), ((4, 1.0), (64, 16.0)))), 10.0, 19.0)
    assert widths_within([64, 64], [64, 64], flat, [4, 4], by_cost=True)[0] == 64
    free = CostBudget(SumOfLayers("ms", 1.0, (((4, 2.0), (64, 2.0)),)), 3.0, 3.0)
    assert widths_within([64], [64], free, [4], by_cost=True) == [64]


def test_layers_that_are_narrow_already_stay_so() -> None:
    now = [4, 8] + [20] * 62
    assert uniform_widths(FULL, now, 0.5, [4] * 64) == now
    widths = widths_within(FULL, now, budget(0.5), [4] * 64, by_cost=False)
    assert widths == now


def test_seeds_decide_random_widths() -> None:
    candidates = [[4, 8, 12]] * 64
    assert random_widths(candidates, None, 1) == random_widths(candidates, None, 1)
    assert random_widths(candidates, None, 1) != random_widths(candidates, None, 2)


def test_budgets_that_nothing_meets_are_refused() -> None:
    with pytest.raises(UsageError, match="nearest"):
        widths_within(FULL, FULL, budget(0.999), [4] * 64, by_cost=False)
    with pytest.raises(UsageError, match="nearest"):
        random_widths([[32, 64]] * 64, budget(0.9), 1)
