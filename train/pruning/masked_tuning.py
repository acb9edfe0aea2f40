"""Tuning what reads a layer while some of its channels are switched off."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.train.loop.kernel_loss import LastKernel
from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.pruning.partial_forward import Recorder, Replay, run_up_to
from drc_deploy.train.pruning.pruning import Pruning
from drc_deploy.train.reader import readers

MOMENTUM = 0.9
LARGEST_STEP = 2e-2
"""Of the weights' norm, that one gradient may ask to change. The authors' rate is for DRN, whose steps are smaller;
features of other networks can be so large that it diverges."""


FEATURE_VARIANCE = 100.0
"""Variance that every output of a layer's readers is brought to in L_M: as in DRN, where it is 10 to 1,500 and by which
the paper sets gamma. In SPAN it is 0.01 to 3: L_DR would choose alone, which costs 0.6 dB."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Equation 5 of the DRC paper: L_M + gamma * L_DR."""

    features: bool
    """Whether L_M, the mean squared error of what reads the layer, takes part, in units of its variance (see
    ``FEATURE_VARIANCE``): the features of one network are a thousand times those of another."""
    duals: nn.ModuleList
    """Empty: L_DR is its primal part alone."""
    gamma: float
    dual_weight: float


@dataclass(frozen=True, slots=True)
class _Batch:
    """One batch, with what does not change while a layer is pruned."""

    images: list[Tensor]
    """Coarse to fine."""
    behind: Replay
    """The pruned network from the layer's first reader on."""
    targets: list[Tensor]
    """Output of each reader in the original network."""


class MaskedTuning:
    """All that reads one layer at work on a few batches.

    What the original network gives, and what the pruned one computes before the layer, is computed once: a pass costs
    only what lies behind.
    """

    def __init__(self, pruning: Pruning, index: int, batches: Sequence[list[Tensor]], objective: Objective) -> None:
        self._network, self._objective = pruning.pruned, objective
        self._names = list(dict.fromkeys(part.module for part in self._network.prunable_layers[index].read))
        self._readers = readers(self._network, index)
        self._learning_rate = pruning.options.learning_rate
        self._batches = [self._prepare(pruning, images) for images in batches]
        self._feature_weights = [self._feature_weight(number) for number in range(len(self._names))]

    def _prepare(self, pruning: Pruning, images: list[Tensor]) -> _Batch:
        targets = [run_up_to(pruning.original, name, images[0]).output for name in self._names]
        return _Batch(images, Replay(self._network, self._names[0], images[0]), targets)

    def _feature_weight(self, number: int) -> float:
        """Return what the squared error of one reading module counts in L_M."""
        channels = -1 if isinstance(self._network.get_submodule(self._names[number]), nn.Linear) else 1
        outputs = torch.cat([batch.targets[number].movedim(channels, 0).flatten(1) for batch in self._batches], dim=1)
        variance = float(outputs.var(dim=1).mean())
        return FEATURE_VARIANCE / variance if variance > 0 else 1.0

    def losses(self) -> Iterator[Tensor]:
        """Return the objective of each batch, with the weights as they are by then."""
        for batch in self._batches:
            with ExitStack() as stack:
                recorders = [stack.enter_context(Recorder(self._network, name)) for name in self._names]
                kernel = stack.enter_context(LastKernel(self._network))
                outputs = batch.behind.run()
            losses = dual_regression_losses(outputs, batch.images, self._objective.duals, kernel.take())
            loss = self._objective.gamma * losses.total(self._objective.dual_weight)
            if self._objective.features:
                for recorder, target, weight in zip(recorders, batch.targets, self._feature_weights, strict=True):
                    loss = loss + weight * F.mse_loss(recorder.output, target)
            yield loss

    def gradients(self) -> list[Tensor]:
        """Return for each reader the sum over all batches of the gradient of the weights that read the layer.

        Switched on or not: (C, group, O, taps), as ``Reader.kernels``.
        """
        weights = [reader.weight.requires_grad_(True) for reader in self._readers]
        totals = [torch.zeros_like(weight) for weight in weights]
        for loss in self.losses():
            for total, gradient in zip(totals, torch.autograd.grad(loss, weights), strict=True):
                total.add_(gradient)
        for weight in weights:
            weight.requires_grad_(False)
        return [reader.kernels(total) for reader, total in zip(self._readers, totals, strict=True)]

    def adjust(self, mask: Tensor) -> None:
        """Train the weights that read the channels that are switched on, and the biases, for one pass.

        Args:
            mask: (C,) 1 for channels that are switched on, 0 for the others.
        """
        masks: dict[nn.Parameter, Tensor] = {}
        for reader in self._readers:  # a module may read the layer twice
            # What reads other inputs stays: zeros there are channels of layers that were pruned before.
            masks[reader.weight] = masks.get(reader.weight, 0) + reader.masked(mask)
        biases = dict.fromkeys(reader.bias for reader in self._readers if reader.bias is not None)
        parameters = [*masks, *biases]
        for parameter in parameters:
            parameter.requires_grad_(True)
        # A new optimiser each time: momentum from before a channel was switched on would not fit.
        optimizer = torch.optim.SGD(parameters, self._learning_rate, momentum=MOMENTUM, nesterov=True)
        for loss in self.losses():
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient * masks[parameter] if parameter in masks else gradient
            nn.utils.clip_grad_norm_(parameters, self._largest_gradient(masks))
            optimizer.step()
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def _largest_gradient(self, weights: Iterable[Tensor]) -> float:
        """Return the norm from which gradients are cut, so that a step stays small next to the weights."""
        size = torch.stack([weight.detach().norm() for weight in weights]).norm()
        return float(LARGEST_STEP * size / self._learning_rate) if self._learning_rate else 1.0
