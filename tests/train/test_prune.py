"""Pruning keeps the channels that matter, shrinks exactly, and resumes at any layer."""

from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.compress import CompressOptions, compress, prune_file
from drc_deploy.train.options import TrainOptions
from drc_deploy.train.patches import PatchSampler
from drc_deploy.train.photographs import Photographs
from drc_deploy.train.prune import PruneOptions, Pruner, prune_to_widths
from drc_deploy.train.search import SearchOptions
from drc_deploy.train.trainer import Trainer
from tests.train.interruption import interrupt_after

OPTIONS = PruneOptions(batches=1, batch=2, patch=8, channels_per_step=16)
WIDTHS = (4, 12, *(20,) * 10)


def sampler(photographs: Photographs) -> PatchSampler:
    return PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1)


def test_channels_that_carry_nothing_are_dropped_first(photographs: Photographs, tmp_path: Path) -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    dead = [1, 5, 6, 17, 30]
    producer, consumer = (network.convolution(f"up_blocks.0.1.body.{i}") for i in (0, 2))
    with torch.no_grad():
        producer.weight[dead] = 0
        assert producer.bias is not None
        producer.bias[dead] = 0
    before = consumer.weight.clone()
    options = PruneOptions(batches=1, batch=2, patch=8, channels_per_step=27, learning_rate=0)
    pruner = Pruner(network, network.build_duals(), options)
    widths = (*network.widths[:3], 27, *network.widths[4:])
    small = prune_to_widths(pruner, widths, sampler(photographs), tmp_path / "s", inputs={})
    assert pruner.kept[3] == [i for i in range(32) if i not in dead]
    torch.testing.assert_close(small.convolution("up_blocks.0.1.body.2").weight, before[:, pruner.kept[3]])
    lr = torch.rand(1, 3, 8, 8) * 255
    with torch.no_grad():
        torch.testing.assert_close(small.eval().upscale(lr), network.eval().upscale(lr), rtol=1e-5, atol=1e-3)


def test_full_widths_change_nothing(parent: Path, photographs: Photographs, tmp_path: Path) -> None:
    full = load_checkpoint(parent)
    widths = full.build_network().widths
    same = prune_file(parent, widths, photographs, OPTIONS, tmp_path / "same.safetensors")
    for name, tensor in full.weights.items():
        assert torch.equal(same.weights[name], tensor)


def test_adjusting_lowers_the_reconstruction_error(photographs: Photographs) -> None:
    """What follows the choice of channels: SGD on the chosen ones, by the same loss."""
    errors = []
    for rate in (0.0, 5e-5):
        torch.manual_seed(0)
        network = build_network(ModelSpec("drn_xs", 4))
        options = PruneOptions(batches=4, batch=2, patch=8, channels_per_step=4, learning_rate=rate)
        pruner = Pruner(network, network.build_duals(), options)
        batches = [sampler(photographs).sample(i) for i in range(4)]
        layer = network.prunable_layers[2]
        pruner.prune_layer(layer, 12, batches, _SilentProgress())
        features = [pruner._features(network, layer.consumer, images[0]) for images in batches]
        losses = [pruner._loss(layer.consumer, i, f) for i, f in zip(batches, features, strict=True)]
        errors.append(sum(float(loss) for loss in losses))
    assert errors[1] < errors[0]


class _SilentProgress:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


def test_a_killed_pruning_goes_on_at_the_next_layer(
    parent: Path, photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = prune_file(parent, WIDTHS, photographs, OPTIONS, tmp_path / "a.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Pruner, "prune_layer", 5)
        with pytest.raises(KeyboardInterrupt):
            prune_file(parent, WIDTHS, photographs, OPTIONS, tmp_path / "b.safetensors")
    resumed = prune_file(parent, WIDTHS, photographs, OPTIONS, tmp_path / "b.safetensors")
    for name, tensor in straight.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name
    assert resumed.spec.widths == WIDTHS


def test_impossible_widths_are_refused(parent: Path, photographs: Photographs, tmp_path: Path) -> None:
    for widths in ((4,), (9, *WIDTHS[1:]), (0, *WIDTHS[1:])):
        with pytest.raises(UsageError):
            prune_file(parent, widths, photographs, OPTIONS, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_compress_goes_on_after_an_interruption_and_does_finished_stages_once(
    parent: Path, photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = CompressOptions(SearchOptions(steps=2, batch=2, patch=8), OPTIONS, TrainOptions(3, 2, 8))
    output = tmp_path / "run" / "net_r30.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 1)
        with pytest.raises(KeyboardInterrupt):
            compress(parent, photographs, options, output)
    assert not output.exists()
    searched = (output.parent / "net_r30.stages" / "net_r30.widths.json").stat().st_mtime_ns
    manifest = compress(parent, photographs, options, output)
    assert (output.parent / "net_r30.stages" / "net_r30.widths.json").stat().st_mtime_ns == searched
    assert [stage["stage"] for stage in manifest["stages"]] == ["search", "prune", "finetune"]
    small = load_checkpoint(output)
    assert small.build_network().parameter_count < load_checkpoint(parent).build_network().parameter_count
    written = output.stat().st_mtime_ns
    compress(parent, photographs, options, output)
    assert output.stat().st_mtime_ns == written


def test_pruning_without_trained_duals_is_repeatable(photographs: Photographs, tmp_path: Path) -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    save_checkpoint(tmp_path / "parent.safetensors", Checkpoint.of(network))
    one, other = (
        prune_file(tmp_path / "parent.safetensors", WIDTHS, photographs, OPTIONS, tmp_path / f"{i}.safetensors")
        for i in range(2)
    )
    assert not one.dual_weights
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, other.weights[name]), name
