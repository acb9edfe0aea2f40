"""Cutting channels out of a network physically."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from drc_deploy.models.network import SRNetwork
from drc_deploy.models.registry import build_network


def shrink(network: SRNetwork, kept: Sequence[Sequence[int]]) -> SRNetwork:
    """Build the narrower network that keeps only the given channels of each prunable layer.

    Its output equals that of ``network`` with all other input channels of the consumers multiplied by zero.

    Args:
        network: Pruned before or not.
        kept: For each prunable layer, indices into the consumer's present input channels, ascending.

    Returns:
        A new network on the CPU with the same mode (training or evaluation).
    """
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    for layer, channels in zip(network.prunable_layers, kept, strict=True):
        inputs = torch.as_tensor(channels)
        # Through PixelShuffle, channel i of the consumer comes from outputs i*group .. i*group + group - 1.
        outputs = (inputs[:, None] * layer.group + torch.arange(layer.group)).flatten()
        _select(state, f"{layer.consumer}.weight", inputs, dim=1)
        _select(state, f"{layer.producer}.weight", outputs, dim=0)
        _select(state, f"{layer.producer}.bias", outputs, dim=0)
    spec = dataclasses.replace(network.spec, widths=tuple(len(channels) for channels in kept))
    smaller = build_network(spec)
    smaller.load_state_dict(state)
    return smaller.train(network.training)


def _select(state: dict[str, Tensor], name: str, indices: Tensor, *, dim: int) -> None:
    if name in state:  # encoder convolutions have no bias
        state[name] = state[name].index_select(dim, indices)
