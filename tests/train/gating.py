"""Channels of convolutions switched off by factors."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial

from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork
from drc_deploy.train.search.gates import convolve, replaced


def gated(network: SRNetwork, gates: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    """Multiply the input channels of the named convolutions by their factors while the block runs."""
    return replaced(network, {name: partial(_gated, network.convolution(name), gate) for name, gate in gates.items()})


def _gated(convolution: nn.Conv2d, gate: Tensor, x: Tensor) -> Tensor:
    return convolve(convolution, x, convolution.weight * gate[:, None, None])
