"""CP: channels are chosen by LASSO on the layer's output, and their weights by least squares.

He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017). The targets are the
original network's outputs without bias: with it, as in the code of the DRC authors, the regression would have to
explain a constant by channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.train.pruning.layer_samples import Refit, put_weights, refit_behind_queries, sample_readers
from drc_deploy.train.pruning.pruning import LayerwisePruning
from drc_deploy.train.reader import readers

SWEEPS = 200
"""Passes of coordinate descent at one penalty, at most."""
TOLERANCE = 1e-7
BISECTIONS = 50


class LassoPruning(LayerwisePruning):
    """Chooses the channels that explain the layer's output with fewest non-zero factors."""

    def prune_layer(self, index: int, width: int, batches: Sequence[list[Tensor]]) -> list[int]:
        """See ``LayerwisePruning.prune_layer``."""
        all_samples = sample_readers(self, index, batches)
        contributions = [samples.contributions() for samples in all_samples]
        gram = torch.stack([torch.einsum("noc,nod->cd", c, c) for c in contributions]).sum(dim=0)
        moments = [
            torch.einsum("noc,no->c", c, samples.targets) for c, samples in zip(contributions, all_samples, strict=True)
        ]
        moment = torch.stack(moments).sum(dim=0)
        kept = lasso_channels(gram.cpu().numpy(), moment.cpu().numpy(), width)
        for reader, samples in zip(readers(self.pruned, index), all_samples, strict=True):
            put_weights(reader, kept, Refit(samples).weights(kept))
        refit_behind_queries(self, index, kept, batches)
        return kept


def lasso_channels(gram: NDArray[np.float64], moment: NDArray[np.float64], width: int) -> list[int]:
    """Raise the penalty of a LASSO until ``width`` factors are not zero, and give their numbers, ascending.

    Where no penalty leaves exactly that many, those of the greatest share in the output are taken from a solution that
    has more.

    Args:
        gram: (C, C) products of the channels' contributions.
        moment: (C,) products of the contributions with the targets.
        width: How many to choose.
    """
    low, high = 0.0, float(np.abs(moment).max())
    factors = lasso(gram, moment, low, np.zeros_like(moment))
    for _ in range(BISECTIONS):
        penalty = (low + high) / 2
        candidate = lasso(gram, moment, penalty, factors)
        count = np.count_nonzero(candidate)
        if count >= width:
            low, factors = penalty, candidate
        else:
            high = penalty
        if count == width:
            break
    shares = np.abs(factors) * np.sqrt(np.diag(gram))
    return sorted(np.argsort(-shares, kind="stable")[:width].tolist())


def lasso(
    gram: NDArray[np.float64], moment: NDArray[np.float64], penalty: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimise 1/2 b'Gb - m'b + penalty * |b|_1 by coordinate descent; channels that give nothing stay at zero."""
    factors: NDArray[np.float64] = start.copy()
    scale = np.abs(moment).max() or 1.0
    useful = np.flatnonzero(np.diag(gram) > 0)
    factors[np.diag(gram) <= 0] = 0
    gradient = gram @ factors - moment
    for _ in range(SWEEPS):
        largest = 0.0
        for j in useful:
            pull = gram[j, j] * factors[j] - gradient[j]
            new = np.sign(pull) * max(abs(pull) - penalty, 0.0) / gram[j, j]
            if change := new - factors[j]:
                gradient += gram[:, j] * change
                largest = max(largest, abs(change) * gram[j, j])
                factors[j] = new
        if largest < TOLERANCE * scale:
            break
    return factors
