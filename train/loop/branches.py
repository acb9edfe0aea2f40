"""Convolutions that are trained as sums of branches, and are one convolution again when training ends.

As in ECBSR, RepVGG and SPAN. The branches are added up as kernels and not as images, which costs next to nothing.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from drc_deploy.errors import UsageError
from drc_deploy.models.network import SRNetwork

EXPANSION = 2
"""Channels between the two convolutions of the longest branch, for each input channel."""


class BranchedKernel(nn.Module):
    """The kernel of a 3x3 convolution as the sum of a 3x3 one, a 1x1 one, and a 1x1 one followed by a 3x3 one.

    At first the sum is the kernel that it is made of: the other branches add nothing.
    """

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        outputs, inputs = kernel.shape[:2]
        self.plain = nn.Parameter(kernel.detach().clone())
        self.point = nn.Parameter(kernel.new_zeros(outputs, inputs))
        self.expand = nn.Parameter(kernel.new_zeros(EXPANSION * inputs, inputs))
        self.reduce = nn.Parameter(kernel.new_empty(outputs, EXPANSION * inputs, 3, 3))
        nn.init.kaiming_uniform_(self.reduce, a=5**0.5)

    def forward(self) -> Tensor:
        """Return the kernel: (outputs, inputs, 3, 3)."""
        long = torch.einsum("oehw,ei->oihw", self.reduce, self.expand)
        return self.plain + long + nn.functional.pad(self.point[:, :, None, None], (1, 1, 1, 1))


def branched_names(network: SRNetwork) -> list[str]:
    """Return the names of the weights that can have branches: those of 3x3 convolutions that learn.

    Raises:
        UsageError: there are none.
    """
    # Networks of others share a weight among layers, which is named once, or compute it from other parameters.
    learnt = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    names = [
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and f"{name}.weight" in learnt and module.weight.shape[2:] == (3, 3)
    ]
    if not names:
        raise UsageError(
            f"{network.spec.name} has no 3x3 convolutions to train as sums of branches.", "Leave --branches out."
        )
    return names


class Branches(nn.Module):
    """The branched kernels of a network, which computes with their sums.

    Raises:
        UsageError: it has no 3x3 convolutions that learn.
    """

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self._names = branched_names(network)
        self.kernels = nn.ModuleList(BranchedKernel(network.get_parameter(name)) for name in self._names)
        for name in self._names:
            network.get_parameter(name).requires_grad_(False)

    def merged(self) -> dict[str, Tensor]:
        """Return the sums by the names of the network's weights, in float32 under autocast as well.

        In bfloat16 they would not be the kernels that the result holds, and modules of images would lose their bits.
        """
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return {name: kernel() for name, kernel in zip(self._names, self.kernels, strict=True)}

    def run(self, network: SRNetwork, lr: Tensor) -> list[Tensor]:
        """Return the network's images, computed with the sums."""
        result: list[Tensor] = functional_call(network, self.merged(), (lr,))
        return result

    @torch.no_grad()
    def write_into(self, network: SRNetwork) -> None:
        """Put the sums in place of the network's weights."""
        for name, kernel in self.merged().items():
            network.get_parameter(name).copy_(kernel)
