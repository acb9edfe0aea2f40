"""SwinIR: convolutions around blocks of attention within windows.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer" (ICCVW 2021); pruned as in "Towards Lightweight
Super-Resolution with Dual Regression Learning". Parameter names are those of the published files, without the buffers
that can be computed. Stochastic depth is left out: it makes two passes over one batch differ by chance, and search,
pruning and tuning compare losses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.models.drn import RGB_MEAN, pair
from drc_deploy.models.network import ModelSpec, resolve_widths
from drc_deploy.models.one_image import OneImageNetwork
from drc_deploy.slices import PrunableLayer, Slice

WINDOW = 8
SHIFT = WINDOW // 2
"""By how much every other block moves its windows."""
UPSAMPLER_FEATURES = 64
HIDDEN = -100.0
"""Added to the score of a pixel that a window has only since the image is rolled: its weight becomes exp(-100)."""
WHITE = 255.0


@dataclass(frozen=True, slots=True)
class SwinIRConfig:
    """Size of a SwinIR."""

    features: int
    """Channels of the trunk."""
    depths: tuple[int, ...]
    """Blocks of each group."""
    heads: int
    upsampler: Literal["pixelshuffle", "pixelshuffledirect"]
    """Convolutions and steps of x2 or one of x3, or one convolution and one PixelShuffle."""

    @property
    def head_width(self) -> int:
        """Channels of each head of the unpruned network."""
        return self.features // self.heads

    @property
    def hidden(self) -> int:
        """Channels inside the MLP of the unpruned network."""
        return 2 * self.features


class WindowAttention(nn.Module):
    """Attention among the pixels of a window, with several heads; ``width`` is that of a head."""

    relative_position_index: Tensor

    def __init__(self, config: SwinIRConfig, width: int) -> None:
        super().__init__()
        self.heads = config.heads
        # That of the unpruned network: cut channels of queries and keys are zeros in the same sum.
        self.scale: float = config.head_width**-0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, config.heads))
        self.qkv = nn.Linear(config.features, 3 * config.heads * width)
        self.proj = nn.Linear(config.heads * width, config.features)
        self.register_buffer("relative_position_index", _relative_positions(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, windows, 64, C) -> the same shape. ``mask``: (windows, 1, 64, 64), added to the scores."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, dim=-1))
        scores = (q.transpose(2, 3) * self.scale) @ k.permute(0, 1, 3, 4, 2) + self._position_bias()
        if mask is not None:
            scores = scores + mask
        mixed = scores.softmax(dim=-1) @ v.transpose(2, 3)
        result: Tensor = self.proj(mixed.transpose(2, 3).flatten(3))
        return result

    def _position_bias(self) -> Tensor:
        """Return what each head adds to the score of two pixels by where they lie: (heads, 64, 64)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


def _relative_positions() -> Tensor:
    """Return for each two pixels of a window the row of the table of position biases: (64, 64) int."""
    # On the CPU: on the device "meta", torch would first load its compiler, which takes seconds.
    with torch.device("cpu"):
        place = torch.arange(WINDOW**2)
        rows, columns = place // WINDOW, place % WINDOW
        down, right = (axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (rows, columns))
        return down * (2 * WINDOW - 1) + right


class MLP(nn.Module):
    """Two linear layers for every pixel by itself."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.fc2 = nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same shape."""
        result: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return result


class SwinBlock(nn.Module):
    """Window attention, then an MLP, each behind a LayerNorm and added to its input."""

    def __init__(self, config: SwinIRConfig, *, shifted: bool, widths: Iterator[int]) -> None:
        super().__init__()
        self.shift = SHIFT if shifted else 0
        self.norm1 = nn.LayerNorm(config.features)
        self.attn = WindowAttention(config, next(widths))
        self.norm2 = nn.LayerNorm(config.features)
        self.mlp = MLP(config.features, next(widths))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, H, W, C) -> the same shape. ``mask`` as from ``window_mask``."""
        _, height, width, _ = x.shape
        normal = self.norm1(x)
        if self.shift:
            normal = normal.roll((-self.shift, -self.shift), dims=(1, 2))
        attended = from_windows(self.attn(to_windows(normal), mask if self.shift else None), height, width)
        if self.shift:
            attended = attended.roll((self.shift, self.shift), dims=(1, 2))
        x = x + attended
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


def to_windows(x: Tensor) -> Tensor:
    """(N, H, W, C) -> (N, windows, 64, C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(batch, -1, WINDOW**2, channels)


def from_windows(x: Tensor, height: int, width: int) -> Tensor:
    """(N, windows, 64, C) -> (N, H, W, C)."""
    batch, _, _, channels = x.shape
    x = x.reshape(batch, height // WINDOW, width // WINDOW, WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


def window_mask(height: int, width: int, device: torch.device) -> Tensor:
    """Return what keeps pixels from each other that meet in a window only since the image is rolled.

    Returns:
        (windows, 1, 64, 64) float32: ``HIDDEN`` for such pairs, otherwise 0.
    """

    def regions(length: int) -> Tensor:
        """Number the last ``SHIFT`` rows, which come from the other end, and those that share windows with them."""
        place = torch.arange(length, device=device)
        return (place >= length - WINDOW).int() + (place >= length - SHIFT).int()

    region = 3 * regions(height)[:, None] + regions(width)[None, :]
    (of_window,) = to_windows(region[None, :, :, None]).squeeze(-1)
    together: Tensor = of_window[:, None, :, None] == of_window[:, None, None, :]
    return (1 - together.float()) * HIDDEN


class Group(nn.Module):
    """Blocks and a convolution behind them, added to the group's input; named as in the published files."""

    def __init__(self, config: SwinIRConfig, depth: int, widths: Iterator[int]) -> None:
        super().__init__()
        blocks = nn.ModuleList(SwinBlock(config, shifted=b % 2 == 1, widths=widths) for b in range(depth))
        self.residual_group = nn.ModuleDict({"blocks": blocks})
        self.conv = nn.Conv2d(config.features, config.features, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, H, W, C) -> the same shape. ``mask`` as from ``window_mask``."""
        blocks = self.residual_group["blocks"]
        assert isinstance(blocks, nn.ModuleList)
        inner = x
        for block in blocks:
            inner = block(inner, mask)
        result: Tensor = x + self.conv(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return result


class SwinIR(OneImageNetwork):
    """Groups of blocks of window attention between convolutions; one image, at the last scale only."""

    mean: Tensor

    def __init__(self, spec: ModelSpec, config: SwinIRConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.prunable_layers = tuple(_prunable_layers(config))
        full = [(layer.name, layer.full_width) for layer in self.prunable_layers]
        self.widths = resolve_widths(spec.widths, full, spec.name)
        self.multiple_of = self.minimum = WINDOW
        self.receptive_field, self.global_operations = _receptive_field(config), False
        widths, features = iter(self.widths), config.features
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(features)})
        self.layers = nn.ModuleList(Group(config, depth, widths) for depth in config.depths)
        self.norm = nn.LayerNorm(features)
        self.conv_after_body = nn.Conv2d(features, features, 3, padding=1)
        self.image_maker = self._build_upsampler()
        # The last convolution makes the result: 8 bits need more than the 11 of a half-precision sum.
        self.float32_modules = (self.image_maker,)
        self.image_modules = ("conv_first", self.image_maker)
        self._initialise()

    def _build_upsampler(self) -> str:
        """Add what follows the body; return the name of the convolution that makes the image."""
        features, scale = self.config.features, self.spec.scale
        if self.config.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(nn.Conv2d(features, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
            return "upsample.0"
        inner = UPSAMPLER_FEATURES
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(features, inner, 3, padding=1), nn.LeakyReLU(0.01))
        factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        steps: list[nn.Module] = []
        for factor in factors:
            steps += [nn.Conv2d(inner, factor**2 * inner, 3, padding=1), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(*steps)
        self.conv_last = nn.Conv2d(inner, 3, 3, padding=1)
        return "conv_last"

    def _initialise(self) -> None:
        for module in self.modules():
            drawn = None
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
                drawn = module.weight
            elif isinstance(module, WindowAttention):
                drawn = module.relative_position_bias_table
            if drawn is not None and not drawn.is_meta:
                nn.init.trunc_normal_(drawn, std=0.02)

    def compute(self, lr: Tensor) -> Tensor:
        """Return the image; see ``SRNetwork.upscale``."""
        shallow = self.conv_first(lr / WHITE - self.mean)
        mask = window_mask(lr.shape[2], lr.shape[3], lr.device)
        x = self.patch_embed["norm"](shallow.permute(0, 2, 3, 1))
        for group in self.layers:
            x = group(x, mask)
        x = self.conv_after_body(self.norm(x).permute(0, 3, 1, 2)) + shallow
        if self.config.upsampler == "pixelshuffle":
            x = self.conv_before_upsample(x)
        x = self.upsample(x)
        if self.config.upsampler == "pixelshuffle":
            x = self.conv_last(x)
        image: Tensor = (x.float() + self.mean) * WHITE
        return image


def _prunable_layers(config: SwinIRConfig) -> Iterator[PrunableLayer]:
    """List the inner widths in the order of the authors' channel configuration files; attention: of each head."""
    for number, depth in enumerate(config.depths):
        for b in range(depth):
            block = f"layers.{number}.residual_group.blocks.{b}"
            yield _attention_layer(f"stage{number}.block{b}.attention", config, f"{block}.attn")
            yield pair(f"stage{number}.block{b}.mlp", config.hidden, f"{block}.mlp.fc1", f"{block}.mlp.fc2")


def _attention_layer(name: str, config: SwinIRConfig, attention: str) -> PrunableLayer:
    """Return the channels of every head: each is made as query, key and value, and the same ones go in all heads."""

    def part(number: int) -> tuple[Slice, ...]:
        start = number * config.heads * config.head_width
        return tuple(
            Slice(f"{attention}.qkv.{leaf}", 0, start=start, repeats=config.heads) for leaf in ("weight", "bias")
        )

    queries, keys, values = map(part, range(3))
    read = Slice(f"{attention}.proj.weight", 1, repeats=config.heads)
    # The values first: attention averages them, and they are what is read.
    return PrunableLayer(name, config.head_width, (*values, *queries, *keys), (read,), queries=queries)


def _receptive_field(config: SwinIRConfig) -> int:
    """Follow the interval of pixels that the worst placed output pixel of a window depends on, in input pixels."""
    upsampler = 1 if config.upsampler == "pixelshuffledirect" else 3  # one convolution, or two and those behind them
    reach = 0
    for place in range(WINDOW):
        first, last = place - upsampler - 1, place + upsampler + 1  # and the convolution after the body
        for depth in reversed(config.depths):
            first, last = first - 1, last + 1
            for block in reversed(range(depth)):
                shift = SHIFT * (block % 2)
                first = (first - shift) // WINDOW * WINDOW + shift
                last = (last - shift) // WINDOW * WINDOW + shift + WINDOW - 1
        reach = max(reach, place - first + 1, last + 1 - place)  # the first convolution
    return reach
