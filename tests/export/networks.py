"""Small networks for the tests, quick to trace and to run."""

import functools
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.engine_info import EngineInfo, IoDtype, Precision
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.graph.graph import TRACE_SHAPE, trace_graph
from drc_deploy.models.network import ModelSpec, SRNetwork


class Toy(SRNetwork):
    """Nearest-neighbour enlargement by 2 and three convolutions."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.spec = ModelSpec("toy", 2)
        self.float32_modules = self.image_modules = ("tail",)
        self.prunable_layers, self.widths = (), ()
        self.receptive_field, self.global_operations = 2, False
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 1)
        self.tail = nn.Conv2d(4, 3, 1)
        with torch.no_grad():
            self.inner.weight.mul_(gain)
            self.tail.weight.div_(gain)

    def upscale(self, lr: Tensor) -> Tensor:
        x = F.interpolate(lr, scale_factor=2.0, mode="nearest")
        x = self.between(self.inner(self.head(x)))
        result: Tensor = self.tail(x) + 100
        return result

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, lr: Tensor) -> list[Tensor]:
        return [self.upscale(lr)]

    def build_duals(self, design: DualDesign = "progressive") -> nn.ModuleList:
        return nn.ModuleList()


class Cancels(Toy):
    """Five more layers, of which the chosen ones subtract large weights whose difference float16 loses.

    Channels come in equal pairs, so that such a layer multiplies by the small difference of its weights.
    """

    def __init__(self, sensitive: Sequence[int]) -> None:
        super().__init__()
        self.chain = nn.Sequential(*(nn.Conv2d(4, 4, 1, bias=False) for _ in range(5)))
        pairs = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
        with torch.no_grad():
            self.inner.weight.copy_(torch.ones(4, 4)[:, :, None, None] / 8)
            self.inner.bias.zero_()  # type: ignore[union-attr]
            for index, layer in enumerate(self.chain):
                matrix = 1001.2 * torch.eye(4) - 1000.3 * pairs if index in sensitive else torch.eye(4)
                layer.weight.copy_(matrix[:, :, None, None])  # type: ignore[operator]

    def between(self, x: Tensor) -> Tensor:
        result: Tensor = self.chain(x)
        return result


class BurnsBatch(Toy):
    """Holds only for the batch that is traced."""

    def upscale(self, lr: Tensor) -> Tensor:
        return super().upscale(lr) * (2.0 if int(lr.shape[0]) == TRACE_SHAPE[0] else 1.0)


def graph_of(network: SRNetwork, precision: Precision = "fp32") -> onnx.ModelProto:
    """Return the float32 graph of a network, in the opset for ``precision``, with no layer folded into another."""
    return trace_graph(pixel_network(network), precision)


def toy_info(io_dtype: IoDtype, *, tile: tuple[int, int] | None = None, scale: int = 2) -> EngineInfo:
    """Describe a toy network."""
    return EngineInfo("toy", scale, "fp32", io_dtype, tile, 4, 2, False, 100, (), "0" * 64)


class Gathers(Toy):
    """Takes sides that are multiples of 2 only, whose pixels it gathers into channels."""

    def __init__(self) -> None:
        super().__init__()
        self.multiple_of = 2
        self.head = nn.Conv2d(12, 4, 3, padding=1)

    def between(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    def upscale(self, lr: Tensor) -> Tensor:
        x = F.interpolate(self.head(F.pixel_unshuffle(lr, 2)), scale_factor=2.0, mode="nearest")
        result: Tensor = self.tail(self.between(self.inner(x))) + 100
        return result


class Windows(Toy):
    """Takes sides that are multiples of 8, whose windows are numbered by a Python that knows one image only."""

    multiple_of = 8

    def between(self, x: Tensor) -> Tensor:
        count = int(x.shape[0]) * (int(x.shape[2]) // 16) * (int(x.shape[3]) // 16)
        windows = x.reshape(count, -1)
        return (windows - windows.mean(1, keepdim=True)).reshape(x.shape)


class Pools(Toy):
    """Takes no sides below 8: every pixel sees the largest numbers far around it."""

    minimum = 8

    def between(self, x: Tensor) -> Tensor:
        around = F.max_pool2d(F.avg_pool2d(x, 3, 2), 7, 3)
        return x + F.interpolate(around, size=x.shape[-2:], mode="bilinear", align_corners=False)


class PoolsFurther(Pools):
    """Convolves what it pooled: a single pixel in images of 15 to 22 pixels."""

    minimum = 15

    def between(self, x: Tensor) -> Tensor:
        around = F.max_pool2d(F.avg_pool2d(x, 5, 4), 7, 3)
        around = torch.relu(F.conv2d(around, self.head.weight[:, :1].repeat(1, 4, 1, 1), padding=1))
        return x + F.interpolate(around, size=x.shape[-2:], mode="bilinear", align_corners=False)


@functools.lru_cache
def _mask(height: int, width: int) -> Tensor:
    return torch.linspace(0, 1, height * width).view(1, 1, height, width)


class Masked(Toy):
    """Keeps a mask for each size where other networks find it, too."""

    def between(self, x: Tensor) -> Tensor:
        return x * _mask(x.shape[2], x.shape[3])
