"""Greedy channel pruning by gradient: the paper's, and DCP, which it extends by the dual regression loss.

Layer by layer, channels are taken up by the gradient of the feature reconstruction loss plus gamma times the dual
regression loss (DRC paper, Equation 5), each starting from its pretrained weights.

Unlike the authors' code, "drc" brings the weights of all channels taken up to the minimum of the reconstruction loss,
in closed form, before each pass of gradient descent on the whole loss. At the authors' learning rate a pass hardly
moves them, and the gradients of the other channels would show what is missing before any adjustment.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drc_deploy.errors import TrainingError
from drc_deploy.models.network import PrunableLayer
from drc_deploy.train.pruning.layer_samples import Refit, sample_layer
from drc_deploy.train.pruning.masked_tuning import MaskedTuning, Objective
from drc_deploy.train.pruning.pruning import LayerwisePruning


class GreedyPruning(LayerwisePruning):
    """Switches all channels of a layer off and takes them up again, best first."""

    def prune_layer(self, layer: PrunableLayer, width: int, batches: Sequence[list[Tensor]]) -> list[int]:
        """Take up ``width`` channels; see ``LayerwisePruning.prune_layer``.

        Raises:
            TrainingError: a gradient is not finite.
        """
        consumer = self.pruned.convolution(layer.consumer)
        tuning = MaskedTuning(self, layer.consumer, batches, self.objective())
        pretrained = consumer.weight.detach().clone()
        refit = Refit(sample_layer(self, layer, batches)) if self.options.method == "drc" else None
        with torch.no_grad():
            consumer.weight.zero_()
        mask = consumer.weight.new_zeros(consumer.in_channels)
        for count in range(0, width, self.options.channels_per_step):
            scores = channel_scores(tuning.gradient(), layer).masked_fill(mask.bool(), -1)
            chosen = scores.topk(min(self.options.channels_per_step, width - count)).indices
            mask[chosen] = 1
            kept: list[int] = mask.nonzero().flatten().tolist()
            with torch.no_grad():
                if refit:
                    consumer.weight[:, kept] = refit.weights(kept).to(pretrained).view_as(pretrained[:, kept])
                else:
                    consumer.weight[:, chosen] = pretrained[:, chosen]
            tuning.adjust(mask)
        return kept

    def objective(self) -> Objective:
        """Return the loss whose gradient chooses."""
        duals = self.duals if self.options.method == "drc" and self.options.dual_weight else nn.ModuleList()
        return Objective(True, duals, self.options.gamma, self.options.dual_weight)


def channel_scores(gradient: Tensor, layer: PrunableLayer) -> Tensor:
    """Rate input channels by the gradient of the weights that read them.

    Args:
        gradient: (O, C, kH, kW).
        layer: For the error message.

    Returns:
        (C,) sums over output channels of the L2 norm of each kernel's gradient (the authors' choice).

    Raises:
        TrainingError: some are not finite.
    """
    scores: Tensor = gradient.flatten(2).norm(dim=2).sum(dim=0)
    if not torch.isfinite(scores).all():
        raise TrainingError(
            f"the gradient of layer {layer.name} is not finite.", "Give a smaller --gamma, or check the checkpoint."
        )
    return scores
