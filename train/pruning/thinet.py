"""ThiNet: channels are removed greedily by how little they add to the layer's output.

Luo, Wu and Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression" (ICCV 2017).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from drc_deploy.train.pruning.layer_samples import LayerSamples, sample_readers
from drc_deploy.train.pruning.masked_tuning import MaskedTuning, Objective
from drc_deploy.train.pruning.pruning import LayerwisePruning
from drc_deploy.train.reader import readers


class ThiNetPruning(LayerwisePruning):
    """Removes channels from a layer one by one, scales those that stay, and tunes the layer for one pass."""

    def prune_layer(self, index: int, width: int, batches: Sequence[list[Tensor]]) -> list[int]:
        """See ``LayerwisePruning.prune_layer``."""
        random = np.random.default_rng((self.options.seed, 1, len(self.kept)))
        contributions = torch.cat([_one_output(s, random) for s in sample_readers(self, index, batches)])
        kept = remaining_channels(contributions, width)
        scales = best_scales(contributions, kept)
        layer_readers = readers(self.pruned, index)
        mask = layer_readers[0].weight.new_zeros(layer_readers[0].width)
        mask[kept] = 1
        with torch.no_grad():
            factors = mask.clone()
            factors[kept] = scales.to(factors)
            for reader in layer_readers:
                reader.kernels(reader.weight).mul_(factors[:, None, None, None])
        objective = Objective(False, self.duals, 1.0, self.options.dual_weight)
        MaskedTuning(self, index, batches, objective).adjust(mask)
        return kept


def _one_output(samples: LayerSamples, random: np.random.Generator) -> Tensor:
    """Return what each channel adds to one random output at each place: (n, C)."""
    everything = samples.contributions()
    places = torch.arange(len(everything), device=everything.device)
    outputs = torch.as_tensor(random.integers(everything.shape[1], size=len(everything)), device=everything.device)
    return everything[places, outputs]


def remaining_channels(contributions: Tensor, width: int) -> list[int]:
    """Remove channels until ``width`` are left, each time the one after which the removed ones add least.

    Args:
        contributions: (n, C) what each channel adds to n outputs.
        width: How many stay.

    Returns:
        Their numbers, ascending. "Least" is the sum of squares over the outputs (the paper's Equation 6).
    """
    left = list(range(contributions.shape[1]))
    removed = contributions.new_zeros(len(contributions), 1)
    while len(left) > width:
        errors = (removed + contributions[:, left]).square().sum(dim=0)
        worst = left.pop(int(errors.argmin()))
        removed = removed + contributions[:, worst : worst + 1]
    return left


def best_scales(contributions: Tensor, kept: Sequence[int]) -> Tensor:
    """Return the factors of the kept channels that bring their sum closest to that of all: least squares, (kept,)."""
    wanted = contributions.sum(dim=1, keepdim=True)
    chosen = contributions[:, kept]
    normal = chosen.T @ chosen
    # Channels that never speak have any factor; held at 1, they keep their weights.
    normal.diagonal().add_(1e-6 * normal.diagonal().mean() + 1e-12)
    error = wanted - chosen.sum(dim=1, keepdim=True)
    change: Tensor = torch.linalg.solve(normal, chosen.T @ error)[:, 0]
    return 1 + change
