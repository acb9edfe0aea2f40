"""DRN-E, for the edge: every block works at the resolution of the input, and one PixelShuffle enlarges at the end.

The blocks are those of SPAN (Wan et al., "Swift Parameter-free Attention Network for Efficient Super-Resolution", CVPR
Workshops 2024): their gate looks at one pixel, so that tiles are exact with a border. Unlike DRN it has one dual
network, from its image to its input.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from drc_deploy.models.drn import RGB_MEAN, pair
from drc_deploy.models.network import ModelSpec, resolve_widths
from drc_deploy.models.one_image import OneImageNetwork
from drc_deploy.slices import PrunableLayer, Slice

BLOCKS = 6
WHITE = 255.0
FUSED = 4
"""Groups of features that the image is made of."""
SPAN_NAMES = {"conv_1": "head", "conv_2": "end", "conv_cat": "fuse", "upsampler.0": "tail.0"} | {
    f"block_{b + 1}.c{c}_r": f"blocks.{b}.conv{c}" for b in range(BLOCKS) for c in (1, 2, 3)
}
"""Layers of an imported SPAN -> the same layers here."""


@dataclass(frozen=True, slots=True)
class DRNEConfig:
    """Size of a DRN-E."""

    features: int
    """Channels of every layer of the unpruned network."""


class GatedBlock(nn.Module):
    """Three convolutions, whose result gates itself and the block's input; ``inner`` are the two widths between."""

    def __init__(self, trunk: int, inner: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(trunk, inner[0], 3, padding=1)
        self.conv2 = nn.Conv2d(inner[0], inner[1], 3, padding=1)
        self.conv3 = nn.Conv2d(inner[1], trunk, 3, padding=1)
        self.activation = nn.SiLU()  # a module, so that layers are timed with it

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> the block's result, of the same shape, and the features behind its first convolution."""
        first: Tensor = self.activation(self.conv1(x))
        y = self.conv3(self.activation(self.conv2(first)))
        return (x + y) * (torch.sigmoid(y) - 0.5), first


class DRNE(OneImageNetwork):
    """Gated blocks at the input's resolution; new weights make the nearest-neighbour image."""

    mean: Tensor

    def __init__(self, spec: ModelSpec, config: DRNEConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.prunable_layers = tuple(_prunable_layers(config.features))
        full = [(layer.name, layer.full_width) for layer in self.prunable_layers]
        self.widths = resolve_widths(spec.widths, full, spec.name)
        self.receptive_field, self.global_operations = 3 * BLOCKS + 3, False
        trunk, *inner, behind, fused = self.widths
        pairs = list(zip(inner[::2], inner[1::2], strict=True))
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(3, 1, 1) * WHITE, persistent=False)
        self.head = nn.Conv2d(3, trunk, 3, padding=1)
        self.blocks = nn.ModuleList(GatedBlock(trunk, widths) for widths in pairs)
        self.end = nn.Conv2d(trunk, behind, 3, padding=1)
        self.fuse = nn.Conv2d(2 * trunk + behind + pairs[-1][0], fused, 1)
        self.tail = nn.Sequential(nn.Conv2d(fused, 3 * spec.scale**2, 3, padding=1), nn.PixelShuffle(spec.scale))
        # Both touch the 0..255 range: 8 bits need more than the 11 of a half-precision sum.
        self.float32_modules = self.image_modules = ("head", "tail.0")
        self._start_with_nearest()

    @torch.no_grad()
    def _start_with_nearest(self) -> None:
        """Pass the colours through three channels: an image to add to that costs nothing to compute."""
        head, fuse, tail = map(self.convolution, ("head", "fuse", "tail.0"))
        assert head.bias is not None
        assert fuse.bias is not None
        assert tail.bias is not None
        if tail.weight.is_meta:
            return
        tail.weight.zero_()
        for c in range(min(3, head.out_channels, fuse.out_channels)):
            head.weight[c], head.bias[c], fuse.weight[c], fuse.bias[c] = 0, 0, 0, 0
            head.weight[c, c, 1, 1] = 1
            fuse.weight[c, c] = 1
            made = slice(c * self.scale**2, (c + 1) * self.scale**2)
            tail.weight[made, c, 1, 1] = 1 / WHITE
            tail.bias[made] = RGB_MEAN[c]

    def compute(self, lr: Tensor) -> Tensor:
        """Return the image; see ``SRNetwork.upscale``."""
        shallow = x = self.head(lr - self.mean)
        for number, block in enumerate(self.blocks):
            x, first = block(x)
            if number == 0:
                early = x
        fused = self.fuse(torch.cat((shallow, self.end(x), early, first), dim=1))
        image: Tensor = self.tail(fused).float() * WHITE
        return image

    def adopt(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights of an imported SPAN under the names here, and as large: the image stays the same.

        New channels have weights of this network where they are made, and zeros where they are read. What is no
        unpruned SPAN of this scale, or has more channels, is returned as it is.
        """
        names = {
            f"net.{there}.{leaf}": f"{here}.{leaf}" for there, here in SPAN_NAMES.items() for leaf in ("weight", "bias")
        }
        if set(weights) != set(names) or (features := len(weights["net.conv_1.weight"])) > min(self.widths):
            return weights
        with torch.device("meta"):
            unpruned = DRNE(ModelSpec(self.spec.name, self.scale), DRNEConfig(features)).state_dict()
        if any(tensor.shape != unpruned[names[name]].shape for name, tensor in weights.items()):
            return weights
        mine = self.state_dict()
        return {names[name]: _grown(tensor, mine[names[name]], names[name]) for name, tensor in weights.items()}


def _grown(small: Tensor, large: Tensor, name: str) -> Tensor:
    """Return ``small`` within a tensor of the shape of ``large``: new outputs as in ``large``, new inputs zero."""
    grown = large.clone()
    if small.ndim == 1:
        grown[: len(small)] = small
        return grown
    groups = FUSED if name == "fuse.weight" else 1
    there, here = (tensor.view(len(tensor), groups, -1, *tensor.shape[2:]) for tensor in (small, grown))
    outputs, _, inputs = there.shape[:3]
    here[:, :, inputs:] = 0
    here[:outputs, :, :inputs] = there
    return grown


def _prunable_layers(features: int) -> Iterator[PrunableLayer]:
    """List the trunk, the two inner widths of each block, and what makes and reads the features behind the blocks."""
    trunk = ["head", *(f"blocks.{b}.conv3" for b in range(BLOCKS))]
    readers = [*(f"blocks.{b}.conv1" for b in range(BLOCKS)), "end"]
    shallow, behind, early, first = (Slice("fuse.weight", 1, start=group * features) for group in range(FUSED))
    made = tuple(part for layer in trunk for part in _made_by(layer))
    read = (*(Slice(f"{layer}.weight", 1) for layer in readers), shallow, early)
    yield PrunableLayer("trunk", features, made, read, trunk=True)
    for b, c in itertools.product(range(BLOCKS), (1, 2)):
        layer = pair(f"block{b}.conv{c}", features, f"blocks.{b}.conv{c}", f"blocks.{b}.conv{c + 1}")
        yield replace(layer, read=(*layer.read, first)) if (b, c) == (BLOCKS - 1, 1) else layer
    yield PrunableLayer("end", features, _made_by("end"), (behind,))
    yield pair("fuse", features, "fuse", "tail.0")


def _made_by(layer: str) -> tuple[Slice, ...]:
    """Return the output channels of a convolution."""
    return Slice(f"{layer}.weight", 0), Slice(f"{layer}.bias", 0)
