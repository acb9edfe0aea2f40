"""Greedy channel pruning by gradient: the paper's, and DCP, which it extends by the dual regression loss.

Layer by layer, channels are taken up by the gradient of the feature reconstruction loss plus gamma times the dual
regression loss (DRC paper, Equation 5), each starting from its pretrained weights.

Unlike the authors' code, "drc" by default brings the weights of all channels taken up to the minimum of the
reconstruction loss, in closed form, before each pass of gradient descent on the whole loss. At the authors' learning
rate a pass hardly moves them, and the gradients of the other channels would show what is missing before any adjustment.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drc_deploy.errors import TrainingError
from drc_deploy.train.pruning.layer_samples import Refit, put_weights, refit_behind_queries, sample_readers
from drc_deploy.train.pruning.masked_tuning import MaskedTuning, Objective
from drc_deploy.train.pruning.pruning import LayerwisePruning
from drc_deploy.train.reader import Reader, readers


class GreedyPruning(LayerwisePruning):
    """Switches all channels of a layer off and takes them up again, best first."""

    def prune_layer(self, index: int, width: int, batches: Sequence[list[Tensor]]) -> list[int]:
        """Take up ``width`` channels; see ``LayerwisePruning.prune_layer``.

        Raises:
            TrainingError: a gradient is not finite.
        """
        layer_readers = readers(self.pruned, index)
        tuning = MaskedTuning(self, index, batches, self.objective())
        refits = [Refit(samples) for samples in sample_readers(self, index, batches)] if self.options.refits else []
        pretrained = [reader.kernels(reader.weight).detach().clone() for reader in layer_readers]
        with torch.no_grad():
            for reader in layer_readers:
                reader.kernels(reader.weight).zero_()
        mask = pretrained[0].new_zeros(len(pretrained[0]))
        for count in range(0, width, self.options.channels_per_step):
            scores = self._scores(tuning, index).masked_fill(mask.bool(), -1)
            chosen = scores.topk(min(self.options.channels_per_step, width - count)).indices
            mask[chosen] = 1
            kept: list[int] = mask.nonzero().flatten().tolist()
            for reader, refit in zip(layer_readers, refits, strict=False):
                put_weights(reader, kept, refit.weights(kept))
            if not refits:
                _take_up(layer_readers, pretrained, chosen)
            tuning.adjust(mask)
        if refits:
            refit_behind_queries(self, index, kept, batches)
        return kept

    def _scores(self, tuning: MaskedTuning, index: int) -> Tensor:
        scores = torch.stack([channel_scores(gradient) for gradient in tuning.gradients()]).sum(dim=0)
        if not torch.isfinite(scores).all():
            raise TrainingError(
                f"the gradient of layer {self.original.prunable_layers[index].name} is not finite.",
                "Give a smaller --gamma, or check the checkpoint.",
            )
        return scores

    def objective(self) -> Objective:
        """Return the loss whose gradient chooses."""
        duals = self.duals if self.options.method == "drc" and self.options.dual_weight else nn.ModuleList()
        return Objective(True, duals, self.options.gamma, self.options.dual_weight)


def _take_up(layer_readers: Sequence[Reader], pretrained: Sequence[Tensor], chosen: Tensor) -> None:
    """Put the pretrained weights of channels back."""
    with torch.no_grad():
        for reader, kernels in zip(layer_readers, pretrained, strict=True):
            reader.kernels(reader.weight)[chosen] = kernels[chosen]


def channel_scores(gradient: Tensor) -> Tensor:
    """Rate the channels of a layer by the gradient of the weights of one reader, (C, group, O, taps).

    Returns:
        (C,) sums over output channels of the L2 norm of each kernel's gradient (the authors' choice).
    """
    scores: Tensor = gradient.norm(dim=3).sum(dim=(1, 2))
    return scores
