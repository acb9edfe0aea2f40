"""Dual-regression channel pruning: which channels of each layer stay?

Layer by layer, channels are taken up greedily by the gradient of the feature reconstruction loss plus gamma times the
dual regression loss (DRC paper, Equation 5), each starting from its pretrained weights.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import PrunableLayer, SRNetwork
from drc_deploy.progress import Progress, progress
from drc_deploy.train.device import memory_checked, place, place_images
from drc_deploy.train.limits import check_counts, check_not_negative
from drc_deploy.train.losses import dual_regression_losses
from drc_deploy.train.patches import PatchSampler
from drc_deploy.train.shrink import shrink
from drc_deploy.train.state import load_state, save_state

MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """How the pruning runs. Defaults follow the paper and its code."""

    batches: int = 10
    """Batches per pass over the pruning data (authors' code: 160 images in batches of 16)."""
    batch: int = 16
    patch: int = 48
    """Side of a patch in LR pixels."""
    channels_per_step: int = 1
    """Channels taken up after each pass; more is faster and less exact."""
    learning_rate: float = 5e-5
    """Of the SGD that adjusts the channels taken up so far."""
    gamma: float = 1.0
    """Weight of the dual regression loss beside the feature loss (paper: 1)."""
    dual_weight: float = 0.1
    """Lambda inside the dual regression loss."""
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse options that cannot be run.

        Raises:
            UsageError: a number that is out of range.
        """
        check_counts(self, "batches", "batch", "patch", "channels_per_step")
        check_not_negative(self, "learning_rate", "gamma", "dual_weight")


class Pruner:
    """A pretrained network and a copy of it that is pruned layer by layer."""

    def __init__(self, network: SRNetwork, duals: nn.ModuleList, options: PruneOptions) -> None:
        self.original = place(network).eval().requires_grad_(False)
        self.pruned = copy.deepcopy(self.original)
        self.duals = place(duals).eval().requires_grad_(False)
        self.options = options
        self.kept: list[list[int]] = []
        """Channels kept in each layer done so far, ascending."""

    def prune_layer(self, layer: PrunableLayer, width: int, batches: Sequence[list[Tensor]], bar: Progress) -> None:
        """Choose ``width`` input channels of ``layer``'s consumer; the weights of the others become zero."""
        batches = [place_images(images) for images in batches]
        consumer = self.pruned.convolution(layer.consumer)
        if width == consumer.in_channels:
            self.kept.append(list(range(width)))
            bar.advance(width)
            return
        features = [self._features(self.original, layer.consumer, images[0]) for images in batches]
        pretrained = consumer.weight.detach().clone()
        consumer.requires_grad_(True)
        with torch.no_grad():
            consumer.weight.zero_()
        mask = consumer.weight.new_zeros(consumer.in_channels)
        while (count := int(mask.sum())) < width:
            scores = self._scores(layer.consumer, batches, features)
            scores[mask.bool()] = -1
            chosen = scores.topk(min(self.options.channels_per_step, width - count)).indices
            mask[chosen] = 1
            with torch.no_grad():
                consumer.weight[:, chosen] = pretrained[:, chosen]
            self._adjust(layer.consumer, mask, batches, features)
            bar.advance(len(chosen), layer.name)
        consumer.requires_grad_(False)
        self.kept.append(mask.nonzero().flatten().tolist())

    def _features(self, network: SRNetwork, consumer: str, lr: Tensor) -> Tensor:
        """Give the consumer's output for one batch, without gradients."""
        with torch.no_grad(), _Recorder(network, consumer) as recorder:
            network.upscale(lr)
        return recorder.output

    def _loss(self, consumer: str, images: list[Tensor], feature: Tensor) -> Tensor:
        """L_M + gamma * L_DR of Equation 5 for one batch."""
        with _Recorder(self.pruned, consumer) as recorder:
            outputs = self.pruned(images[0])
        reconstruction = F.mse_loss(recorder.output, feature)
        dual_regression = dual_regression_losses(outputs, images, self.duals).total(self.options.dual_weight)
        return reconstruction + self.options.gamma * dual_regression

    def _scores(self, consumer: str, batches: Sequence[list[Tensor]], features: Sequence[Tensor]) -> Tensor:
        """Rate each input channel by the gradient of its weights, switched on or not.

        The score sums over output channels the L2 norm of the kernel's gradient (the authors' choice).
        """
        weight = self.pruned.convolution(consumer).weight
        gradient = torch.zeros_like(weight)
        for images, feature in zip(batches, features, strict=True):
            gradient += torch.autograd.grad(self._loss(consumer, images, feature), weight)[0]
        scores: Tensor = gradient.flatten(2).norm(dim=2).sum(dim=0)
        if not torch.isfinite(scores).all():
            raise TrainingError(
                f"the gradient of layer {consumer} is not finite.",
                "Give a smaller --gamma, or check the checkpoint.",
            )
        return scores

    def _adjust(self, consumer: str, mask: Tensor, batches: Sequence[list[Tensor]], features: Sequence[Tensor]) -> None:
        """Fine-tune the channels switched on, and the bias, for one pass."""
        convolution = self.pruned.convolution(consumer)
        parameters = [p for p in (convolution.weight, convolution.bias) if p is not None]
        # A new optimiser each time: momentum from before a channel was switched on would not fit.
        optimizer = torch.optim.SGD(parameters, self.options.learning_rate, momentum=MOMENTUM, nesterov=True)
        for images, feature in zip(batches, features, strict=True):
            gradients = torch.autograd.grad(self._loss(consumer, images, feature), parameters)
            convolution.weight.grad = gradients[0] * mask[:, None, None]
            if convolution.bias is not None:
                convolution.bias.grad = gradients[1]
            optimizer.step()

    def state(self) -> dict[str, Any]:
        """Give all that a later run needs to go on with the next layer."""
        return {"kept": self.kept, "network": self.pruned.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.kept = state["kept"]
        self.pruned.load_state_dict(state["network"])


class _Recorder:
    """Keeps the output of one module of the network while the block runs."""

    output: Tensor

    def __init__(self, network: SRNetwork, module: str) -> None:
        self._handle = network.get_submodule(module).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.output = output

    def __enter__(self) -> "_Recorder":
        return self

    def __exit__(self, *_error: object) -> None:
        self._handle.remove()


def prune_to_widths(
    pruner: Pruner, widths: Sequence[int], sampler: PatchSampler, state_path: Path, *, inputs: dict[str, Any]
) -> SRNetwork:
    """Prune every layer to its width and shrink the network, going on from ``state_path`` after an interruption.

    Args:
        pruner: The pretrained network.
        widths: One width per prunable layer, at most its present one.
        sampler: Where the pruning data comes from; each layer sees its own batches.
        state_path: Where finished layers are kept; the caller deletes it once the result is on disk.
        inputs: What else must be the same when the work goes on, such as the checkpoint.

    Returns:
        The physically smaller network on the CPU.

    Raises:
        UsageError: widths that do not fit the network.
        TrainingError: a gradient that is not finite, or memory ran out.
    """
    network = pruner.original
    _check_widths(network, widths)
    options = {**dataclasses.asdict(pruner.options), "widths": list(widths), **inputs}
    if state := load_state(state_path, options):
        pruner.restore(state["pruner"])
    done = sum(len(kept) for kept in pruner.kept)
    with memory_checked(), progress("Pruning channels", sum(widths), done=done) as bar:
        for index in range(len(pruner.kept), len(widths)):
            first = index * pruner.options.batches
            batches = [sampler.sample(first + i) for i in range(pruner.options.batches)]
            pruner.prune_layer(network.prunable_layers[index], widths[index], batches, bar)
            save_state(state_path, {"options": options, "pruner": pruner.state()})
    return shrink(pruner.pruned, pruner.kept)


def _check_widths(network: SRNetwork, widths: Sequence[int]) -> None:
    if len(widths) != len(network.widths):
        raise UsageError(
            f"{network.spec.name} has {len(network.widths)} prunable layers, but {len(widths)} widths were given.",
            "Use widths that were searched for this model.",
        )
    for layer, width, now in zip(network.prunable_layers, widths, network.widths, strict=True):
        if not 1 <= width <= now:
            raise UsageError(f"layer {layer.name} has {now} channels and cannot keep {width}.", f"Give 1 to {now}.")
