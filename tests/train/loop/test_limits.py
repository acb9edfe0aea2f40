"""Options that no run can have are refused before it starts."""

from typing import Any

import pytest

from drc_deploy.errors import UsageError
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.search.search_options import SearchOptions


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 10**9},
        {"patch": 10**400},
        {"seed": -1},
        {"seed": 2**64},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": 1e38},
        {"dual_weight": float("nan")},
        {"dual_weight": float("inf")},
        {"ema": 1.0},
        {"ema": float("nan")},
        {"warm_up": 2},
        {"accumulate": 0},
        {"dual": "triple"},
        {"schedule": "linear"},
        {"precision": "int8"},
    ],
)
def test_training_refuses_absurd_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        TrainOptions(steps=1, **options)


@pytest.mark.parametrize("cls", [SearchOptions, PruneOptions])
@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"batch": 0}, {"patch": 10**400}, {"dual_weight": -1.0}, {"dual_weight": float("nan")}]
)
def test_search_and_pruning_refuse_absurd_numbers(cls: type, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        cls(**options)


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_pruning_refuses_an_impossible_gamma(gamma: float) -> None:
    with pytest.raises(UsageError, match="gamma"):
        PruneOptions(gamma=gamma)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dual_weight": 0.0}, "--dual none"),
        ({"batch": 6, "accumulate": 4}, "--accumulate that divides"),
        ({"learning_rate": 1e-8}, "--final-learning-rate"),
    ],
)
def test_training_refuses_options_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainOptions(steps=1, **options)
    assert words in caught.value.hint
