"""Small networks with layers by name, and layers written shortly."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.slices import LeftOut, PrunableLayer, Slice

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Modules by name, and what is computed with them."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)
            for factor in module.parameters():
                nn.init.uniform_(factor, -0.5, 0.5)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                nn.init.uniform_(module.running_mean)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(self, x)
        return result


class Together(nn.Module):
    """Several networks over one image, whose names stand before those of their layers; tracing one by one is slow."""

    def __init__(self, nets: dict[str, Net]) -> None:
        super().__init__()
        self.nets = nn.ModuleDict(nets)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([net(x.clone()).flatten(1) for net in self.nets.values()], 1)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


def as_text(layers: Sequence[PrunableLayer]) -> dict[str, str]:
    """Return layers as ``width: made > read`` by name, ``.weight`` left away."""
    return {
        layer.name: ("trunk " if layer.trunk else "")
        + f"{layer.full_width}: {_written(layer.made)} > {_written(layer.read)}".replace(".weight", "")
        for layer in layers
    }


def _written(slices: Sequence[Slice]) -> str:
    """Return slices as tensor[axis], with +start and xgroup where they are not the usual ones."""
    return " ".join(
        f"{s.tensor}[{s.axis}]" + (f"+{s.start}" if s.start else "") + (f"x{s.group}" if s.group > 1 else "")
        for s in slices
    )


def reasons(left_out: Sequence[LeftOut]) -> dict[str, str]:
    """Return the reasons by name, without the one for what makes the image."""
    return {each.name: each.reason for each in left_out if "make the image" not in each.reason}
