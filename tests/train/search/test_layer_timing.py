"""Times land where they belong, and noise cannot make a wider layer cheaper."""

import inspect
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from drc_deploy.errors import ArtefactError
from drc_deploy.latency_table import LatencyTable, read_latency_table, write_latency_table
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.search.cost import cost_model
from drc_deploy.train.search.layer_timing import measure_latency, time_networks

SPEC = ModelSpec("drn_xs", 4)


def test_equal_layers_have_equal_times_and_the_sum_is_the_network() -> None:
    table = measure_latency(SPEC, 16, 24)
    layers = dict(zip(table.layers, table.points, strict=True))
    assert layers["stage0.block0"] == layers["stage0.block3"] != layers["stage1.block0"]
    assert [width for width, _ in layers["stage0.block0"]] == [4, 8, 12, 16, 20, 24, 28, 32]
    full = [layer.full_width for layer in build_network(SPEC).prunable_layers]
    parts = sum(points[-1][1] for points in table.points)
    assert cost_model(SPEC, "latency", table).total(full) == pytest.approx(table.fixed_ms + parts)


def test_a_wider_layer_is_never_cheaper_however_noisy_the_clock() -> None:
    chance = random.Random(1)

    def timer(run: Callable[[], object]) -> float:
        return chance.uniform(1, 2)

    for points in measure_latency(SPEC, 16, 16, timer).points:
        times = [ms for _, ms in points]
        assert times == sorted(times)


def test_a_narrow_layer_counts_as_the_faster_wider_one_that_it_could_be_padded_to() -> None:
    """Kernels of GPU libraries prefer some widths. A network of the preferred ones is charged what it takes."""
    times = {4: 1.0, 8: 2.0, 12: 9.0, 16: 5.0, 20: 9.0, 24: 9.0, 28: 9.0, 32: 6.0}

    def timer(run: Callable[[], object]) -> float:
        modules = inspect.getclosurevars(run).nonlocals.get("module") if inspect.isfunction(run) else None
        return 1000.0 if modules is None else times.get(modules[0].out_channels, 1.0)

    points = dict(zip((table := measure_latency(SPEC, 16, 16, timer)).layers, table.points, strict=True))
    assert points["stage0.block0"] == ((4, 1), (8, 2), (12, 5), (16, 5), (20, 6), (24, 6), (28, 6), (32, 6))


def test_a_pair_is_timed_with_what_the_network_has_between_its_convolutions() -> None:
    seen: dict[str, set[str]] = {}

    def timer(run: Callable[[], object]) -> float:
        if inspect.isfunction(run):
            module = inspect.getclosurevars(run).nonlocals["module"]
            between = {type(part).__name__ for part in module[1:-1]}
            kind = f"{module[0].kernel_size[0]}x{module[-1].kernel_size[0]} stride {module[0].stride[0]}"
            seen.setdefault(kind, set()).update(between)
        return 1.0

    measure_latency(SPEC, 16, 16, timer)
    assert seen == {"3x3 stride 1": {"ReLU"}, "3x3 stride 2": {"LeakyReLU"}, "3x1 stride 1": {"PixelShuffle"}}


def test_parts_never_sum_to_more_than_the_network() -> None:
    """Every layer alone takes as long as the network here: each then counts for its share of it."""
    table = measure_latency(SPEC, 16, 16, lambda _run: 6.0)
    assert sum(points[-1][1] for points in table.points) == pytest.approx(6.0)
    assert table.fixed_ms == 0


def test_a_weight_that_two_layers_share_counts_once() -> None:
    """Where time is the number of weights and 50,000 for the rest, a chain cut anywhere takes that, too."""
    spec = ModelSpec("drn_es", 4)

    def weights(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 4)

    def timer(run: Callable[[], object]) -> float:
        if inspect.isfunction(run):
            return weights(inspect.getclosurevars(run).nonlocals["module"])
        return 50_000.0 + weights(build_network(spec))

    table = measure_latency(spec, 16, 16, timer)
    assert table.fixed_ms == pytest.approx(50_000)
    for widths in ((32,) * 15, (8, *(12, 32) * 6, 16, 4)):
        narrow = build_network(ModelSpec("drn_es", 4, widths))
        assert cost_model(spec, "latency", table).total(widths) == pytest.approx(50_000 + weights(narrow))


def test_networks_are_timed_in_turns_and_the_warm_up_does_not_count() -> None:
    clock = iter([100.0, 100.0, *[2.0, 1.0] * 9])
    specs = [SPEC, ModelSpec("drn_xs", 4, (4,) * 12)]
    assert time_networks(specs, 8, 8, lambda _run: next(clock)) == [2.0, 1.0]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.latency.json")
    with pytest.raises(ArtefactError, match="not a file"):
        read_latency_table(tmp_path / "a.latency.json", model="drn_xs", scale=4)


def test_a_table_is_read_back_and_only_for_its_model(tmp_path: Path) -> None:
    table = measure_latency(SPEC, 16, 16, lambda _run: 1.0)
    path = tmp_path / "a.latency.json"
    write_latency_table(path, table)
    assert read_latency_table(path, model="drn_xs", scale=4) == table
    with pytest.raises(ArtefactError, match="not of drn_s x4"):
        read_latency_table(path, model="drn_s", scale=4)
    damaged = json.loads(path.read_text())
    damaged["points"][0][-1][1] = -1.0
    path.write_text(json.dumps(damaged))
    with pytest.raises(ArtefactError, match="no table"):
        read_latency_table(path, model="drn_xs", scale=4)
    with pytest.raises(ArtefactError, match="cannot read"):
        read_latency_table(tmp_path / "missing.latency.json", model="drn_xs", scale=4)


@pytest.mark.parametrize(
    "edited",
    [
        {"height": 0},
        {"width": -3},
        {"height": 10**9},
        {"fixed_ms": 10**400},
        {"fixed_ms": 1e308},
        {"fixed_ms": 0, "points": [[[8, 0.0]]]},
        {"fixed_ms": 0, "points": [[[8, 1e-320]]]},
        {"points": [[[4, 1e308], [8, 1e308]]]},
    ],
)
def test_a_table_without_usable_numbers_is_refused(tmp_path: Path, edited: dict[str, Any]) -> None:
    path = tmp_path / "a.latency.json"
    write_latency_table(path, LatencyTable("drn_xs", 4, "a", "b", 16, 16, 1.0, ("x",), (((8, 1.0),),)))
    path.write_text(json.dumps({**json.loads(path.read_text()), **edited}))
    with pytest.raises(ArtefactError, match="metadata"):
        read_latency_table(path, model="drn_xs", scale=4)
