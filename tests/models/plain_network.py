"""A second architecture, without attention: a ResNet-like body and one PixelShuffle(4). Serves tests only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.models.drn import DownBlock
from drc_deploy.models.network import ModelSpec, SRNetwork, resolve_widths
from drc_deploy.slices import PrunableLayer, Slice


def _pair(name: str, width: int, producer: str, consumer: str, group: int = 1) -> PrunableLayer:
    made = tuple(Slice(f"{producer}.{leaf}", 0, group=group) for leaf in ("weight", "bias"))
    return PrunableLayer(name, width, made, (Slice(f"{consumer}.weight", 1),))


class PlainNetwork(SRNetwork):
    """conv, [conv-relu-conv], conv to 16 images, PixelShuffle(4), 1x1 conv; coarse outputs by average pooling."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.widths = inner, last = resolve_widths(spec.widths, [("inner", 12), ("last", 6)], spec.name)
        self.spec, self.float32_modules, self.image_modules = spec, ("finish",), ("first", "finish")
        self.receptive_field, self.global_operations = 4, False
        self.prunable_layers = _pair("inner", 12, "first", "second"), _pair("last", 6, "expand", "finish", group=16)
        self.first = nn.Conv2d(3, inner, 3, padding=1)
        self.second = nn.Conv2d(inner, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 16 * last, 3, padding=1)
        self.finish = nn.Conv2d(last, 3, 1)

    def upscale(self, lr: Tensor) -> Tensor:
        x = self.second(torch.relu(self.first(lr.to(self.first.weight.dtype))))
        x = F.pixel_shuffle(self.expand(x), 4)
        result: Tensor = self.finish(x.to(self.finish.weight.dtype))
        return result

    def forward(self, lr: Tensor) -> list[Tensor]:
        fine = self.upscale(lr)
        return [F.avg_pool2d(fine, 4), F.avg_pool2d(fine, 2), fine]

    def build_duals(self, design: DualDesign = "progressive") -> nn.ModuleList:
        assert design == "progressive"
        return nn.ModuleList(DownBlock(3, 4, 3) for _ in range(2))
