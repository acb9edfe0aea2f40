"""The modules that read the channels of a prunable layer, whatever their kind."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork
from drc_deploy.slices import Slice


class Reader:
    """One module that reads a layer's channels: a convolution, transposed or not, or a linear layer.

    Attributes:
        module: The module itself.
        width: Channels of the layer that it reads.
        group: Its input channels for each of them.
    """

    def __init__(self, network: nn.Module, part: Slice, width: int) -> None:
        self.module = network.get_submodule(part.module)
        self.width, self.group = width, part.indices_per_channel
        self._part = part

    @property
    def weight(self) -> nn.Parameter:
        """All weights of the module, those of other inputs included."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias of the module."""
        bias = self.module.bias
        assert bias is None or isinstance(bias, nn.Parameter)
        return bias

    def kernels(self, weight: Tensor) -> Tensor:
        """Return the part of ``weight``, or of its gradient, that reads the layer: a view (C, group, O, taps)."""
        inputs = channels_of(weight, self._part, self.width)
        return inputs.flatten(3) if inputs.dim() > 3 else inputs.unsqueeze(3)

    def channels(self, x: Tensor) -> Tensor:
        """Return the layer's part of what the module reads: (N, C * group, H, W) or (..., C * group)."""
        inputs = x.narrow(self.channel_axis, self._part.start, self.width * self.group)
        if self._part.repeats == 1:
            return inputs
        axis = self.channel_axis % x.dim()
        heads = inputs.reshape(*x.shape[:axis], self._part.repeats, self.width, *x.shape[axis + 1 :])
        return heads.transpose(axis, axis + 1).flatten(axis, axis + 1)

    def with_factors(self, factors: Tensor, of_channels: Tensor) -> Tensor:
        """Return a factor for each input of the module, with those of the layer's channels put in their places."""
        return with_factors(factors, self._part, of_channels)

    def masked(self, mask: Tensor) -> Tensor:
        """Return a factor for each weight: that of its channel, and 0 for the weights of other inputs."""
        factors = torch.zeros_like(self.weight)
        self.kernels(factors).copy_(mask[:, None, None, None].expand_as(self.kernels(factors)))
        return factors

    @property
    def channel_axis(self) -> int:
        """Axis of channels in what the module reads."""
        return -1 if isinstance(self.module, nn.Linear) else 1


def channels_of(tensor: Tensor, part: Slice, width: int) -> Tensor:
    """Return the part of a tensor that belongs to a layer's channels: a view (C, group, ...)."""
    channels = tensor.movedim(part.axis, 0).narrow(0, part.start, width * part.indices_per_channel)
    channels = channels.view(part.repeats, width, part.group, *channels.shape[1:]).transpose(0, 1)
    # One of the two is 1. Unlike ``flatten``, ``view`` never copies.
    return channels.view(width, part.indices_per_channel, *channels.shape[3:])


def with_factors(factors: Tensor, part: Slice, of_channels: Tensor) -> Tensor:
    """Return factors for all indices along a slice's axis, with those of the layer's channels put in their places."""
    end = part.start + len(of_channels) * part.indices_per_channel
    mine = of_channels.repeat_interleave(part.group).repeat(part.repeats)
    return torch.cat((factors[: part.start], mine, factors[end:]))


def silence(network: SRNetwork, index: int, kept: Sequence[int]) -> None:
    """Set the queries of a layer's channels that go to zero, where it has some; what reads them is zero already."""
    layer = network.present_layers[index]
    for part in layer.queries:
        channels = channels_of(network.get_parameter(part.tensor).detach(), part, layer.full_width)
        gone = torch.ones(layer.full_width, dtype=torch.bool, device=channels.device)
        gone[kept] = False
        channels[gone] = 0


def readers(network: SRNetwork, index: int) -> list[Reader]:
    """Return all that reads the prunable layer of that number, in the order of computation."""
    layer = network.present_layers[index]
    return [Reader(network, part, layer.full_width) for part in layer.read]
