"""Magnitude pruning: the channels with the largest weights stay, as they are.

Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017), with the weights that read a channel counted as well.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from drc_deploy.models.network import SRNetwork
from drc_deploy.train.pruning.pruning import LayerwisePruning
from drc_deploy.train.reader import channels_of, readers


class MagnitudePruning(LayerwisePruning):
    """Looks at weights alone, at no image."""

    def prune_layer(self, index: int, width: int, batches: Sequence[list[Tensor]]) -> list[int]:
        """See ``LayerwisePruning.prune_layer``."""
        kept: list[int] = sorted(channel_sizes(self.original, index).topk(width).indices.tolist())
        with torch.no_grad():
            for reader in readers(self.pruned, index):
                gone = torch.ones(reader.width, dtype=torch.bool, device=reader.weight.device)
                gone[kept] = False
                reader.kernels(reader.weight)[gone] = 0
        return kept


def channel_sizes(network: SRNetwork, index: int) -> Tensor:
    """Return for each channel of a layer the L1 norms of the weights that make it and that read it: (C,).

    Each is relative to the sum over the layer.
    """
    layer = network.present_layers[index]
    norms = [
        channels_of(network.get_parameter(part.tensor).detach(), part, layer.full_width).abs().flatten(1).sum(dim=1)
        for part in layer.slices
        if part.tensor.endswith(".weight") and network.get_parameter(part.tensor).dim() > 1
    ]
    return torch.stack([norm / norm.sum() for norm in norms]).sum(dim=0)
