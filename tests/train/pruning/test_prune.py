"""Pruning keeps the channels that matter, shrinks exactly, and resumes at any layer."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from drc_deploy.checkpoint import Checkpoint, Parent, save_checkpoint
from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.pruning.greedy import GreedyPruning, channel_scores
from drc_deploy.train.pruning.masked_tuning import FEATURE_VARIANCE, MaskedTuning
from drc_deploy.train.pruning.prune import prune_file, prune_to_widths, pruning_method
from drc_deploy.train.pruning.prune_options import PruneMethod, PruneOptions
from drc_deploy.train.pruning.pruning import PruneTask
from tests.models.plain_network import PlainNetwork
from tests.train.interruption import interrupt_after

OPTIONS = PruneOptions(batches=1, batch=2, patch=8, channels_per_step=16)
WIDTHS = (4, 12, *(20,) * 10)
FEW = (4, 12, *(20,) * 6, *(32,) * 4)
"""The last four layers keep all channels, which takes no time."""


def sampler(photographs: Photographs) -> PatchSampler:
    return PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1)


def task(photographs: Photographs, widths: tuple[int, ...] = WIDTHS, options: PruneOptions = OPTIONS) -> PruneTask:
    torch.manual_seed(0)
    network = build_network(ModelSpec("drn_xs", 4))
    return PruneTask(network, network.build_duals(), widths, sampler(photographs), options)


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
    widths = (*network.widths[:3], 27, *network.widths[4:])
    pruning = pruning_method(PruneTask(network, network.build_duals(), widths, sampler(photographs), options))
    small = prune_to_widths(pruning, tmp_path / "s", inputs={})
    assert pruning.kept[3] == [i for i in range(32) if i not in dead]
    torch.testing.assert_close(small.convolution("up_blocks.0.1.body.2").weight, before[:, pruning.kept[3]])
    lr = torch.rand(1, 3, 8, 8) * 255
    with torch.no_grad():
        torch.testing.assert_close(small.eval().upscale(lr), network.eval().upscale(lr), rtol=1e-5, atol=1e-3)


def feature_and_images(network: SRNetwork, module: str, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return a module's output and the images of a forward pass."""
    features: list[Tensor] = []
    handle = network.get_submodule(module).register_forward_hook(lambda _m, _i, output: features.append(output))
    images = network(lr)
    handle.remove()
    return features[0], images


@pytest.mark.parametrize("method", ["drc", "dcp"])
@pytest.mark.parametrize("index", [0, 1, 4, 6, 9, 11])
def test_scores_are_gradients_of_the_whole_forward_pass(
    photographs: Photographs, index: int, method: Literal["drc", "dcp"]
) -> None:
    """What is cached before a layer changes nothing: the loss is computed here from the LR images on."""
    options = PruneOptions(method, 2, 2, 8, gamma=0.7)
    pruning = GreedyPruning(task(photographs, options=options))
    name = pruning.original.prunable_layers[index].read[0].module
    consumer = pruning.pruned.convolution(name)
    with torch.no_grad():
        pruning.pruned.get_parameter(pruning.original.prunable_layers[0].read[0].tensor)[:, 0] = 0  # pruned before
        consumer.weight[:, 1] = 0
    batches = [sampler(photographs).sample(i) for i in range(2)]
    tuning = MaskedTuning(pruning, index, batches, pruning.objective())
    found = channel_scores(*tuning.gradients())
    consumer.requires_grad_(True)
    gradient = torch.zeros_like(consumer.weight)
    targets = [feature_and_images(pruning.original, name, images[0])[0] for images in batches]
    variance = torch.cat(targets).var(dim=(0, 2, 3)).mean().detach()
    for images, target in zip(batches, targets, strict=True):
        feature, outputs = feature_and_images(pruning.pruned, name, images[0])
        duals = pruning.duals if method == "drc" else torch.nn.ModuleList()
        loss = FEATURE_VARIANCE / variance * ((feature - target) ** 2).mean()
        loss = loss + 0.7 * dual_regression_losses(outputs, images, duals).total(0.1)
        gradient += torch.autograd.grad(loss, consumer.weight)[0]
    expected = torch.stack([gradient[:, j].flatten(1).norm(dim=1).sum() for j in range(gradient.shape[1])])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_units_of_features_do_not_decide_which_channels_stay(photographs: Photographs) -> None:
    """Features a thousandth as large, in a network that computes the same, leave the same channels."""
    kept = []
    for units in (1.0, 1e-3):
        torch.manual_seed(2)
        network = PlainNetwork(ModelSpec("plain", 4))
        with torch.no_grad():
            network.second.weight.mul_(units)
            network.second.bias.mul_(units)  # type: ignore[union-attr]
            network.expand.weight.div_(units)
        options = PruneOptions(batches=2, batch=2, patch=8, channels_per_step=1, learning_rate=0)
        task = PruneTask(network, network.build_duals(), (6, 6), sampler(photographs), options)
        pruning = GreedyPruning(task)
        pruning.advance()
        kept.append(pruning.kept[0])
    assert kept[0] == kept[1]


def test_adjusting_lowers_the_reconstruction_error(photographs: Photographs) -> None:
    """What follows the choice of channels: SGD on the chosen ones, by the same loss."""
    errors = []
    for rate in (0.0, 5e-5):
        options = PruneOptions("dcp", 4, 2, 8, channels_per_step=4, learning_rate=rate)
        pruning = GreedyPruning(task(photographs, options=options))
        batches = [sampler(photographs).sample(i) for i in range(4)]
        pruning.prune_layer(2, 12, batches)
        tuning = MaskedTuning(pruning, 2, batches, pruning.objective())
        errors.append(sum(float(loss) for loss in tuning.losses()))
    assert errors[1] < errors[0]


def test_full_widths_change_nothing(parent: Parent, photographs: Photographs, tmp_path: Path) -> None:
    full = parent.checkpoint
    widths = full.build_network().widths
    same = prune_file(parent, widths, photographs, OPTIONS, tmp_path / "same.safetensors")
    for name, tensor in full.weights.items():
        assert torch.equal(same.weights[name], tensor)


def test_refitted_channels_reconstruct_better(photographs: Photographs) -> None:
    """Of the same layer, "drc" leaves a smaller error of the layer's output than "dcp", which lacks the refit."""
    errors = []
    for method in ("drc", "dcp"):
        pruning = GreedyPruning(task(photographs, options=PruneOptions(method, 2, 2, 8, 4)))
        name = pruning.original.prunable_layers[2].read[0].module
        batches = [sampler(photographs).sample(i) for i in range(2)]
        pruning.prune_layer(2, 12, batches)
        found, wanted = (
            feature_and_images(network, name, batches[0][0])[0] for network in (pruning.pruned, pruning.original)
        )
        errors.append(float(((found - wanted) ** 2).mean()))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("method", ["drc", "dcp"])
def test_without_a_refit_only_gradient_descent_changes_weights(method: PruneMethod, photographs: Photographs) -> None:
    """With a rate of zero the weights that stay are the pretrained ones, as in the papers."""
    for refit in (False, True):
        options = replace(OPTIONS, method=method, refit=refit, learning_rate=0.0)
        pruning = pruning_method(task(photographs, options=options))
        pruning.advance()
        (part,) = pruning.pruned.prunable_layers[0].read
        before, after = (
            net.get_parameter(part.tensor)[:, pruning.kept[0]] for net in (pruning.original, pruning.pruned)
        )
        assert torch.equal(before, after) == (not refit)


def test_refit_is_for_methods_that_have_one() -> None:
    with pytest.raises(UsageError, match="cp has one way"):
        PruneOptions("cp", refit=True)


def test_a_killed_pruning_goes_on_at_the_next_layer(
    parent: Parent, photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed three times: in the second layer, in a later one, and in the middle of one."""
    straight = prune_file(parent, FEW, photographs, OPTIONS, tmp_path / "a.safetensors")
    for stop, calls in (("prune_layer", 1), ("prune_layer", 4), ("objective", 2)):
        with monkeypatch.context() as patch:
            interrupt_after(patch, GreedyPruning, stop, calls)
            with pytest.raises(KeyboardInterrupt):
                prune_file(parent, FEW, photographs, OPTIONS, tmp_path / "b.safetensors")
    resumed = prune_file(parent, FEW, photographs, OPTIONS, tmp_path / "b.safetensors")
    for name, tensor in straight.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name
    assert resumed.spec.widths == FEW


def test_impossible_widths_are_refused(parent: Parent, photographs: Photographs, tmp_path: Path) -> None:
    for widths in ((4,), (9, *WIDTHS[1:]), (0, *WIDTHS[1:])):
        with pytest.raises(UsageError):
            prune_file(parent, widths, photographs, OPTIONS, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_pruning_without_trained_duals_is_repeatable(photographs: Photographs, tmp_path: Path) -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    save_checkpoint(tmp_path / "parent.safetensors", Checkpoint.of(network))
    parent = Parent.read(tmp_path / "parent.safetensors")
    one, other = (prune_file(parent, FEW, photographs, OPTIONS, tmp_path / f"{i}.safetensors") for i in range(2))
    assert one.dual_weights  # fitted, and kept for the fine-tuning
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, other.weights[name]), name


@pytest.mark.parametrize("method", get_args(PruneMethod))
def test_every_method_keeps_what_was_asked_and_shrinks_exactly(
    photographs: Photographs, tmp_path: Path, method: PruneMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc_deploy.train.pruning.srp.PASSES", 6)
    widths = (4, 12, 20, 32, 8, 20, 20, 20, 12, 12, 28, 20)
    options = PruneOptions(method, 1, 2, 8, channels_per_step=16)
    pruning = pruning_method(task(photographs, widths, options))
    small = prune_to_widths(pruning, tmp_path / "s", inputs={})
    assert small.widths == widths
    assert pruning.work_done == pruning.work
    for layer, kept in zip(pruning.pruned.prunable_layers, pruning.kept, strict=True):
        gone = [i for i in range(layer.full_width) if i not in kept]
        assert not pruning.pruned.get_parameter(layer.read[0].tensor)[:, gone].any()
    lr = torch.rand(1, 3, 8, 8) * 255
    with torch.no_grad():
        torch.testing.assert_close(small.upscale(lr), pruning.pruned.upscale(lr), rtol=1e-5, atol=1e-3)
    again = pruning_method(task(photographs, widths, options))
    for stop in range(3):  # as often as a user may press Ctrl-C
        again.advance()
        saved = again.state()
        again = pruning_method(task(photographs, widths, options))
        again.restore(copy.deepcopy(saved))
        assert again.work_done > stop or again.kept
    while not again.done:
        again.advance()
    assert again.kept == pruning.kept
    for name, tensor in pruning.pruned.state_dict().items():
        assert torch.equal(again.pruned.state_dict()[name], tensor), name


def test_a_score_that_is_no_number_is_an_error(photographs: Photographs, tmp_path: Path) -> None:
    broken = task(photographs)
    with torch.no_grad():
        broken.network.convolution("tail.2").weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        prune_to_widths(pruning_method(broken), tmp_path / "s", inputs={})
