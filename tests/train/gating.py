"""Channels of prunable layers switched off by factors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from drc_deploy.models.network import SRNetwork
from drc_deploy.train.reader import channels_of, readers


@contextmanager
def masked(network: SRNetwork, gates: Mapping[int, Tensor]) -> Iterator[None]:
    """Multiply the weights that read the channels of each numbered layer by their factors while the block runs."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for index, gate in gates.items():
            for reader in readers(network, index):
                reader.kernels(reader.weight).mul_(gate[:, None, None, None])
            layer = network.present_layers[index]
            for part in layer.queries:
                channels = channels_of(network.get_parameter(part.tensor), part, layer.full_width)
                channels.mul_(gate.view(-1, *(1,) * (channels.dim() - 1)))
        yield
        network.load_state_dict(before)
