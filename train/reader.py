"""The modules that read the channels of a prunable layer, whatever their kind."""

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
        self.width, self.group = width, part.group
        self._start, self._axis = part.start, part.axis

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
        inputs = weight.movedim(self._axis, 0).narrow(0, self._start, self.width * self.group)
        inputs = inputs.flatten(2) if inputs.dim() > 2 else inputs.unsqueeze(2)
        return inputs.view(self.width, self.group, *inputs.shape[1:])

    def channels(self, x: Tensor) -> Tensor:
        """Return the layer's part of what the module reads: a view (N, C * group, H, W) or (N, P, C * group)."""
        return x.narrow(self.channel_axis, self._start, self.width * self.group)

    def with_factors(self, factors: Tensor, of_channels: Tensor) -> Tensor:
        """Return a factor for each input of the module, with those of the layer's channels put in their places."""
        before, after = factors[: self._start], factors[self._start + self.width * self.group :]
        return torch.cat((before, of_channels.repeat_interleave(self.group), after))

    def masked(self, mask: Tensor) -> Tensor:
        """Return a factor for each weight: that of its channel, and 0 for the weights of other inputs."""
        factors = torch.zeros_like(self.weight)
        self.kernels(factors).copy_(mask[:, None, None, None].expand_as(self.kernels(factors)))
        return factors

    @property
    def channel_axis(self) -> int:
        """Axis of channels in what the module reads."""
        return -1 if isinstance(self.module, nn.Linear) else 1


def readers(network: SRNetwork, index: int) -> list[Reader]:
    """Return all that reads the prunable layer of that number, in the order of computation."""
    layer = network.present_layers[index]
    return [Reader(network, part, layer.full_width) for part in layer.read]
