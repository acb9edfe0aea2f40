"""Tuning one layer while some of its input channels are switched off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.pruning.partial_forward import Recorder, run_steps, run_up_to, step_of
from drc_deploy.train.pruning.pruning import Pruning

MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class Objective:
    """Equation 5 of the DRC paper: L_M + gamma * L_DR."""

    features: bool
    """Whether L_M, the mean squared error of the layer's output, takes part."""
    duals: nn.ModuleList
    """Empty: L_DR is its primal part alone."""
    gamma: float
    dual_weight: float


@dataclass(frozen=True, slots=True)
class _Batch:
    """One batch, with what does not change while a layer is pruned."""

    images: list[Tensor]
    """Coarse to fine."""
    before: Any
    """What the pruned network has computed when it comes to the layer (see ``SRNetwork.steps``)."""
    target: Tensor
    """Output of the original network's consumer."""


class MaskedTuning:
    """One layer's consumer at work on a few batches.

    What the original network gives, and what the pruned one computes before the layer, is computed once: a pass costs
    only what lies behind.
    """

    def __init__(self, pruning: Pruning, consumer: str, batches: Sequence[list[Tensor]], objective: Objective) -> None:
        self._network, self._name, self._objective = pruning.pruned, consumer, objective
        self._first = step_of(self._network, consumer)
        self._learning_rate = pruning.options.learning_rate
        self._batches = [self._prepare(pruning, images) for images in batches]

    def _prepare(self, pruning: Pruning, images: list[Tensor]) -> _Batch:
        target = run_up_to(pruning.original, self._name, images[0]).output
        with torch.no_grad():
            before = run_steps(self._network, images[0], 0, self._first)
        return _Batch(images, before, target)

    def losses(self) -> Iterator[Tensor]:
        """Return the objective of each batch, with the weights as they are by then."""
        for batch in self._batches:
            with Recorder(self._network, self._name) as recorder:
                outputs = self._network.images(run_steps(self._network, batch.before, self._first, None))
            losses = dual_regression_losses(outputs, batch.images, self._objective.duals)
            loss = self._objective.gamma * losses.total(self._objective.dual_weight)
            yield F.mse_loss(recorder.output, batch.target) + loss if self._objective.features else loss

    def gradient(self) -> Tensor:
        """Return the sum over all batches of the gradient of the consumer's weight, switched on or not."""
        weight = self._network.convolution(self._name).weight.requires_grad_(True)
        total = torch.zeros_like(weight)
        for loss in self.losses():
            total += torch.autograd.grad(loss, weight)[0]
        weight.requires_grad_(False)
        return total

    def adjust(self, mask: Tensor) -> None:
        """Train the input channels that are switched on, and the bias, for one pass.

        Args:
            mask: (C,) 1 for channels that are switched on, 0 for the others.
        """
        convolution = self._network.convolution(self._name).requires_grad_(True)
        parameters = [p for p in (convolution.weight, convolution.bias) if p is not None]
        # A new optimiser each time: momentum from before a channel was switched on would not fit.
        optimizer = torch.optim.SGD(parameters, self._learning_rate, momentum=MOMENTUM, nesterov=True)
        for loss in self.losses():
            gradients = torch.autograd.grad(loss, parameters)
            convolution.weight.grad = gradients[0] * mask[:, None, None]
            if convolution.bias is not None:
                convolution.bias.grad = gradients[1]
            optimizer.step()
        convolution.requires_grad_(False)
        for parameter in parameters:
            parameter.grad = None
