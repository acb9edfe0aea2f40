"""The three stages in one go: each done once, taken up after a kill, and recorded in the manifest."""

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drc_deploy.checkpoint import Parent, load_checkpoint
from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.errors import OutputError, TrainingError, UsageError
from drc_deploy.files import sha256_of
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.latency_table import LatencyTable
from drc_deploy.locate import sample_images
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.only_one import only_one
from drc_deploy.train.compress import CompressInputs, CompressOptions, compress, stage_paths
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.benchmark_psnr import Benchmark, find_benchmarks
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.manifest import Manifest
from drc_deploy.train.pruning import prune
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.pruning.pruning import LayerwisePruning
from drc_deploy.train.search import search_file as search_stage
from drc_deploy.train.search.search import search_widths
from drc_deploy.train.search.search_file import SearchInputs, search_file
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.searcher import Searcher
from drc_deploy.widths import read_widths_file
from tests.train.conftest import save_new
from tests.train.interruption import interrupt_after

OPTIONS = CompressOptions(
    SearchOptions(steps=2, batch=2, patch=8),
    PruneOptions(batches=1, batch=2, patch=8, channels_per_step=16),
    TrainOptions(3, 2, 8),
)


def compress_one(inputs: CompressInputs, options: CompressOptions, output: Path) -> dict[str, Any]:
    (manifest,) = compress(inputs, {output: options})
    return manifest


@pytest.fixture
def inputs(plain_parent: Parent, photographs: Photographs) -> CompressInputs:
    return CompressInputs(plain_parent, photographs)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "run" / "net_r30.safetensors"


@pytest.fixture
def set5(tmp_path: Path) -> Benchmark:
    """One pair of images, as a set."""
    hr = read_rgb(sample_images()[0])[:96, :96]
    for name, image in (("HR", hr), ("LRx4", resize_bicubic(hr, 24, 24))):
        folder = tmp_path / "pairs" / name
        folder.mkdir(parents=True)
        Image.fromarray(image).save(folder / "a.png")
    return find_benchmarks([tmp_path / "pairs"], 4)[0]


@pytest.mark.parametrize(
    ("owner", "method", "calls"), [(Searcher, "update", 1), (LayerwisePruning, "advance", 1), (Trainer, "update", 2)]
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    inputs: CompressInputs,
    output: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    calls: int,
) -> None:
    straight = tmp_path / "straight.safetensors"
    compress_one(inputs, OPTIONS, straight)
    with monkeypatch.context() as patch:
        interrupt_after(patch, owner, method, calls)
        with pytest.raises(KeyboardInterrupt):
            compress_one(inputs, OPTIONS, output)
    assert not output.exists()
    compress_one(inputs, OPTIONS, output)
    expected, found = load_checkpoint(straight).weights, load_checkpoint(output).weights
    for name, tensor in expected.items():
        assert tensor.equal(found[name]), name


def test_finished_stages_are_not_done_again(
    inputs: CompressInputs, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress_one(inputs, OPTIONS, output)
    written = output.stat().st_mtime_ns

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(search_stage, "search_widths", fail)
    monkeypatch.setattr(prune, "prune_to_widths", fail)
    compress_one(inputs, OPTIONS, output)
    assert output.stat().st_mtime_ns == written


def test_a_finished_run_that_is_typed_again_and_killed_forgets_nothing(
    inputs: CompressInputs, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress_one(inputs, OPTIONS, output)
    written = output.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        interrupt_after(patch, Manifest, "describe_result", 0)
        with pytest.raises(KeyboardInterrupt):
            compress_one(inputs, OPTIONS, output)
    compress_one(inputs, OPTIONS, output)
    assert output.stat().st_mtime_ns == written


def test_a_family_ends_with_the_weights_that_each_has_alone(
    inputs: CompressInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its searches run side by side, as on a GPU, and come first; a kill in the second network keeps them."""
    wider = dataclasses.replace(OPTIONS, search=dataclasses.replace(OPTIONS.search, ratio=0.5))
    alone = {name: tmp_path / "alone" / f"{name}.safetensors" for name in ("r30", "r50")}
    for output, options in zip(alone.values(), (OPTIONS, wider), strict=True):
        compress_one(inputs, options, output)
    monkeypatch.setattr(search_stage, "most_at_once", lambda count: count)

    def slow(*arguments: Any) -> None:
        time.sleep(0.6)  # so that half of it is not rounded to nothing
        search_widths(*arguments)

    monkeypatch.setattr(search_stage, "search_widths", slow)
    family = {tmp_path / "family" / "r30.safetensors": OPTIONS, tmp_path / "family" / "r50.safetensors": wider}
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 4)  # the second of the second network
        with pytest.raises(KeyboardInterrupt):
            compress(inputs, family)
    with monkeypatch.context() as patch:
        patch.setattr(search_stage, "search_widths", None)
        manifests = compress(inputs, family)
    for output, manifest in zip(family, manifests, strict=True):
        expected, found = load_checkpoint(alone[output.stem]), load_checkpoint(output)
        assert [stage["stage"] for stage in manifest["stages"]] == ["search", "prune", "finetune"]
        assert expected.spec == found.spec
        for name, tensor in expected.weights.items():
            assert tensor.equal(found.weights[name]), name
    seconds = [manifest["stages"][0]["seconds"] for manifest in manifests]
    assert seconds[0] == seconds[1] >= 0.3


def test_on_a_cpu_a_search_that_fails_costs_nothing_that_was_asked_for_before_it(
    inputs: CompressInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Searcher.update

    def update(search: Searcher, *batches: Any) -> Any:
        if search.options.ratio == 0.5:
            raise TrainingError("the search loss became nan.", "")
        return original(search, *batches)

    monkeypatch.setattr(Searcher, "update", update)
    wider = dataclasses.replace(OPTIONS, search=dataclasses.replace(OPTIONS.search, ratio=0.5))
    with pytest.raises(TrainingError, match="became nan"):
        compress(inputs, {tmp_path / "r30.safetensors": OPTIONS, tmp_path / "r50.safetensors": wider})
    assert load_checkpoint(tmp_path / "r30.safetensors")


def test_a_search_that_narrows_nothing_ends_the_run(
    inputs: CompressInputs, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Searcher, "widths", lambda searcher: list(searcher.supernet.network.widths))
    with pytest.raises(UsageError, match="nothing needs to be cut"):
        compress_one(inputs, OPTIONS, output)
    assert not output.exists()


def test_the_ratio_that_is_named_can_be_reached(parent: Parent, photographs: Photographs, tmp_path: Path) -> None:
    """Most of the time is fixed here: the candidates of a smaller ratio are too wide for the least of a larger one."""
    layers = build_network(ModelSpec("drn_xs", 4)).prunable_layers
    points = tuple(((0, 0.0), (layer.full_width, float(layer.full_width))) for layer in layers)
    fixed_ms = 2 / 3 * sum(layer.full_width for layer in layers)
    table = LatencyTable("drn_xs", 4, "this", "torch", 8, 8, fixed_ms, tuple(layer.name for layer in layers), points)
    options, output = dataclasses.replace(OPTIONS.search, target="latency", round_to=1, ratio=0.9), tmp_path / "net"
    with pytest.raises(UsageError, match="no candidates meet") as caught:
        search_file(SearchInputs(parent, photographs, table), options, output)
    named = float(re.findall(r"ratio of ([0-9.]+)\.", caught.value.message)[0])
    found = search_file(SearchInputs(parent, photographs, table), dataclasses.replace(options, ratio=named), output)
    assert found.reached is not None
    assert found.reached <= (1 - named) * 5 / 2 * fixed_ms
    assert named == pytest.approx(0.45, abs=0.02)


def test_two_at_once_are_not_mixed(inputs: CompressInputs, output: Path) -> None:
    """With other options one would prune to the widths of the other, and its manifest would not show it."""
    compress_one(inputs, OPTIONS, output)
    written = output.stat().st_mtime_ns
    other = dataclasses.replace(OPTIONS, search=dataclasses.replace(OPTIONS.search, seed=2))
    with only_one(output.parent / "net_r30.stages"), pytest.raises(OutputError, match="another process"):
        compress_one(inputs, other, output)
    assert output.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest.update(stages=5),
        lambda manifest: manifest.update(stages=[1]),
        lambda manifest: manifest.update(before=[1]),
        lambda manifest: manifest["before"].update(psnr_y=3),
        lambda manifest: manifest["before"].update(psnr_y={"pairs": "x"}),
        lambda manifest: manifest["stages"][0].pop("seconds"),
        lambda manifest: manifest["stages"][2].update(after=7),
    ],
)
def test_an_edited_manifest_is_no_obstacle(
    inputs: CompressInputs, output: Path, set5: Benchmark, edit: Callable[[dict[str, Any]], Any]
) -> None:
    with_set = dataclasses.replace(inputs, benchmarks=[set5])
    first = compress_one(with_set, OPTIONS, output)
    path = output.with_suffix(".manifest.json")
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    second = compress_one(with_set, OPTIONS, output)
    assert second["before"] == first["before"]
    assert [stage["after"] for stage in second["stages"][1:]] == [stage["after"] for stage in first["stages"][1:]]


def test_a_bound_on_latency_is_taken_up_and_finished_stages_stay(
    inputs: CompressInputs, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = inputs.parent.checkpoint.build_network().prunable_layers
    points = tuple(((1, 0.1), (layer.full_width, 1.0)) for layer in layers)
    table = LatencyTable("plain", 4, "this", "torch", 8, 8, 0.5, tuple(layer.name for layer in layers), points)
    inputs = dataclasses.replace(inputs, latency=table)
    options = dataclasses.replace(OPTIONS, search=dataclasses.replace(OPTIONS.search, target="latency"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, Searcher, "update", 1)
        with pytest.raises(KeyboardInterrupt):
            compress_one(inputs, options, output)
    compress_one(inputs, options, output)
    written = output.stat().st_mtime_ns
    compress_one(inputs, options, output)
    assert output.stat().st_mtime_ns == written
    faster = dataclasses.replace(table, fixed_ms=0.4)
    compress_one(dataclasses.replace(inputs, latency=faster), options, output)
    assert output.stat().st_mtime_ns != written


def test_the_manifest_holds_what_went_in_and_what_came_out(inputs: CompressInputs, output: Path) -> None:
    manifest = compress_one(inputs, OPTIONS, output)
    assert json.loads(output.with_suffix(".manifest.json").read_text()) == manifest
    assert [stage["stage"] for stage in manifest["stages"]] == ["search", "prune", "finetune"]
    assert all(stage["seconds"] >= 0 and stage["options"]["seed"] == 1 for stage in manifest["stages"])
    small = load_checkpoint(output).build_network()
    assert manifest["stages"][-1]["after"]["params"] == small.parameter_count
    assert manifest["stages"][-1]["after"]["multiply_adds"] == multiply_adds(small)
    assert manifest["before"]["params"] == inputs.parent.checkpoint.build_network().parameter_count
    assert set(manifest["versions"]) == {"torch", "numpy", "python"}


def test_a_set_that_is_added_later_is_measured(inputs: CompressInputs, output: Path, set5: Benchmark) -> None:
    compress_one(inputs, OPTIONS, output)
    written = output.stat().st_mtime_ns
    manifest = compress_one(dataclasses.replace(inputs, benchmarks=[set5]), OPTIONS, output)
    assert output.stat().st_mtime_ns == written
    for size in (manifest["before"], manifest["stages"][1]["after"], manifest["stages"][2]["after"]):
        assert size["psnr_y"]["pairs"] > 0


def test_other_images_in_a_set_of_the_same_name_are_measured_anew(
    inputs: CompressInputs, output: Path, set5: Benchmark
) -> None:
    (pair,) = set5[1]
    with_set = dataclasses.replace(inputs, benchmarks=[set5])
    first = compress_one(with_set, OPTIONS, output)
    Image.fromarray(255 - read_rgb(pair.hr_path)).save(pair.hr_path)
    second = compress_one(with_set, OPTIONS, output)
    assert first["before"]["psnr_y"] != second["before"]["psnr_y"]
    assert first["stages"][-1]["after"]["psnr_y"] != second["stages"][-1]["after"]["psnr_y"]


def test_a_pruned_network_can_be_pruned_further_relative_to_the_original(
    inputs: CompressInputs, output: Path, tmp_path: Path, photographs: Photographs
) -> None:
    compress_one(inputs, OPTIONS, output)
    options = CompressOptions(SearchOptions(0.5, 2, 2, 8, round_to=2), OPTIONS.prune, OPTIONS.finetune)
    again = tmp_path / "again.safetensors"
    compress_one(CompressInputs(Parent.read(output), photographs), options, again)
    found = read_widths_file(tmp_path / "again.stages" / "again.widths.json")
    assert found.full_widths == (12, 6)
    assert all(width <= full * 0.5 for width, full in zip(found.widths, found.full_widths, strict=True))
    assert load_checkpoint(again).build_network().widths == found.widths


def test_a_ratio_that_cannot_be_met_is_refused_with_the_nearest(inputs: CompressInputs, output: Path) -> None:
    search = SearchOptions(0.99, 2, 2, 8, target="madds")
    with pytest.raises(UsageError) as caught:
        compress_one(inputs, CompressOptions(search, OPTIONS.prune, OPTIONS.finetune), output)
    assert "multiply-adds" in str(caught.value) + caught.value.hint
    assert not output.exists()


def test_the_weights_that_are_pruned_are_those_whose_sha256_is_recorded(
    inputs: CompressInputs, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file takes the parent's place during the search."""
    path, before = inputs.parent.path, sha256_of(inputs.parent.path)
    (tmp_path / "other").mkdir()
    other = save_new(inputs.parent.info.model, tmp_path / "other")
    update = Searcher.update

    def update_and_replace(*arguments: Any) -> Any:
        shutil.copy(other.path, path)
        return update(*arguments)

    monkeypatch.setattr(Searcher, "update", update_and_replace)
    manifest = compress_one(inputs, OPTIONS, output)
    assert manifest["inputs"]["checkpoint"] == before
    assert read_checkpoint_info(stage_paths(output).pruned).parent_sha256 == before
