"""DRN, the dual regression network, and its dual networks.

Guo et al., "Closed-loop Matters: Dual Regression Networks for Single Image Super-Resolution" (CVPR 2020), as used in
"Towards Lightweight Super-Resolution with Dual Regression Learning". Parameter names are those of the authors'
released weights, so that their files load as they are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.models.network import ModelSpec, SRNetwork, resolve_widths
from drc_deploy.slices import PrunableLayer, Slice

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K in [0, 1]; a checkpoint's own values replace it when weights are loaded."""
ATTENTION_REDUCTION = 16
LEAKY_SLOPE = 0.2


@dataclass(frozen=True, slots=True)
class DRNConfig:
    """Size of a DRN."""

    features: int
    """Channels at full resolution; doubled at each halving."""
    blocks: int
    """Residual channel attention blocks per decoder stage."""


class MeanShift(nn.Conv2d):
    """Adds (sign 1) or subtracts (sign -1) the mean colour, in [0, 255]. Frozen, but part of the state dict."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        assert self.bias is not None
        # Values are made on the CPU: on the device "meta", torch would first load its compiler, which takes seconds.
        with torch.no_grad(), torch.device("cpu"):
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias.copy_(torch.tensor(RGB_MEAN) * 255 * sign)
        # On the parameters: set on the module it would freeze nothing.
        self.requires_grad_(False)


class DownBlock(nn.Module):
    """Halves the resolution: strided 3x3 convolution, LeakyReLU, 3x3 convolution, no biases.

    It is the encoder's step and, with 3 channels in and out, a dual network.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.dual_module = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(in_channels, hidden, 3, stride=2, padding=1, bias=False),
                nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            ),
            nn.Conv2d(hidden, out_channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/2, W/2)."""
        result: Tensor = self.dual_module(x)
        return result


def straight_dual(hidden: int, halvings: int) -> nn.Sequential:
    """Build a dual network from the finest image to the input: strided convolutions, and one that makes the image."""
    layers: list[nn.Module] = []
    for index in range(halvings):
        layers += [
            nn.Conv2d(hidden if index else 3, hidden, 3, stride=2, padding=1, bias=False),
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(hidden, 3, 3, padding=1, bias=False))


class ChannelAttention(nn.Module):
    """Scales each channel by a factor in (0, 1) computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // ATTENTION_REDUCTION
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        factor: Tensor = self.conv_du(self.pool(x))
        return x * factor


class RCAB(nn.Module):
    """Residual channel attention block; ``hidden`` is the width that search and pruning choose."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 3, padding=1),
            ChannelAttention(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        result: Tensor = x + self.body(x)
        return result


class DRN(SRNetwork):
    """A U-shaped network over the bicubically upscaled input, with an image at every scale of its decoder."""

    def __init__(self, spec: ModelSpec, config: DRNConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.phases = int(math.log2(spec.scale))
        self.prunable_layers = tuple(_prunable_layers(config, self.phases))
        self.receptive_field = _receptive_field(config, spec.scale)
        self.global_operations = True
        full = [(layer.name, layer.full_width) for layer in self.prunable_layers]
        self.widths = resolve_widths(spec.widths, full, spec.name)
        widths = iter(self.widths)
        features = config.features
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.down = nn.ModuleList(
            DownBlock(features << p, next(widths), features << (p + 1)) for p in range(self.phases)
        )
        self.up_blocks = nn.ModuleList(self._decoder_stage(s, widths) for s in range(self.phases))
        tail_inputs = [_stage_width(features, self.phases, 0)]
        tail_inputs += [2 * _stage_output(features, self.phases, s) for s in range(self.phases)]
        self.tail = nn.ModuleList(nn.Conv2d(channels, 3, 3, padding=1) for channels in tail_inputs)
        attention = [name for name, module in self.named_modules() if isinstance(module, ChannelAttention)]
        self.global_means = tuple(f"{name}.pool" for name in attention)
        # The last tail makes the result: 8 bits need more than the 11 of a half-precision sum.
        self.float32_modules = ("sub_mean", "add_mean", f"tail.{self.phases}")
        self.image_modules = ("sub_mean", "head", *(f"tail.{k}" for k in range(self.phases + 1)), "add_mean")

    def _decoder_stage(self, stage: int, widths: Iterator[int]) -> nn.Sequential:
        """Build the blocks of one stage, then the convolution and PixelShuffle that double the resolution."""
        channels = _stage_width(self.config.features, self.phases, stage)
        blocks = [RCAB(channels, next(widths)) for _ in range(self.config.blocks)]
        width = next(widths)
        upsampler = nn.Sequential(nn.Conv2d(channels, 4 * width, 3, padding=1), nn.PixelShuffle(2))
        return nn.Sequential(
            *blocks, upsampler, nn.Conv2d(width, _stage_output(self.config.features, self.phases, stage), 1)
        )

    def forward(self, lr: Tensor) -> list[Tensor]:
        """Return phases + 1 images, coarse to fine; see ``SRNetwork.forward``."""
        return [self._image(k, x) for k, x in enumerate(self._decode(lr))]

    def upscale(self, lr: Tensor) -> Tensor:
        """Return only the finest image, without computing the others."""
        return self._image(self.phases, self._decode(lr)[-1])

    def _decode(self, lr: Tensor) -> list[Tensor]:
        """Return what each tail turns into an image, coarse to fine."""
        x = F.interpolate(lr, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        skips = [x := self.head(self.sub_mean(x).to(self.head.weight.dtype))]
        for down in self.down:
            skips.append(x := down(x))
        features = [skips.pop()]
        for stage in self.up_blocks:
            features.append(torch.cat((stage(features[-1]), skips.pop()), dim=1))
        return features

    def _image(self, index: int, features: Tensor) -> Tensor:
        tail = self.tail[index]
        assert isinstance(tail, nn.Conv2d)
        image: Tensor = self.add_mean(tail(features.to(tail.weight.dtype)).to(self.add_mean.weight.dtype))
        return image

    def build_duals(self, design: DualDesign = "progressive") -> nn.ModuleList:
        """Build the dual networks; see ``SRNetwork.build_duals``."""
        features = self.config.features
        if design == "single":
            return nn.ModuleList([straight_dual(features, self.phases)])
        hidden = 2 * features if design == "wide" else features
        return nn.ModuleList(DownBlock(3, hidden, 3) for _ in range(self.phases))


def _stage_width(features: int, phases: int, stage: int) -> int:
    """Channels inside decoder stage ``stage``; the first two stages have the same."""
    return features << (phases - max(stage - 1, 0))


def _stage_output(features: int, phases: int, stage: int) -> int:
    """Channels that decoder stage ``stage`` passes to the next, as many as the skip next to it has."""
    return features << (phases - stage - 1)


def _prunable_layers(config: DRNConfig, phases: int) -> Iterator[PrunableLayer]:
    """List the inner widths in the order of the authors' channel configuration files."""
    for p in range(phases):
        down = f"down.{p}.dual_module"
        # The encoder's convolutions have no biases.
        made = (Slice(f"{down}.0.0.weight", 0),)
        yield PrunableLayer(f"down{p}", config.features << p, made, (Slice(f"{down}.1.weight", 1),))
    for s in range(phases):
        channels, stage = _stage_width(config.features, phases, s), f"up_blocks.{s}"
        for b in range(config.blocks):
            body = f"{stage}.{b}.body"
            yield pair(f"stage{s}.block{b}", channels, f"{body}.0", f"{body}.2")
        upsampler, last = f"{stage}.{config.blocks}.0", f"{stage}.{config.blocks + 1}"
        yield pair(f"stage{s}.up", channels, upsampler, last, group=4)


def pair(name: str, width: int, producer: str, consumer: str, group: int = 1) -> PrunableLayer:
    """Return the layer between two convolutions, ``group`` outputs of the first for each input of the second."""
    made = (Slice(f"{producer}.weight", 0, group=group), Slice(f"{producer}.bias", 0, group=group))
    return PrunableLayer(name, width, made, (Slice(f"{consumer}.weight", 1),))


def _receptive_field(config: DRNConfig, scale: int) -> int:
    """Sum the radii of all local operations along the longest path, in input pixels."""
    phases = int(math.log2(scale))
    bicubic = 2.0
    encoder = (1 + sum((1 << p) + (2 << p) for p in range(phases))) / scale  # head, then two convs a phase
    decoder = sum((2 * config.blocks + 1) / (1 << s) for s in range(phases))
    tail = 1 / scale
    return math.ceil(bicubic + encoder + decoder + tail)
