"""DCLS: blind super-resolution, which estimates the blur kernel of an image and undoes it in feature space.

Luo et al., "Deep Constrained Least Squares for Blind Image Super-Resolution" (CVPR 2022); pruned as in "Towards
Lightweight Super-Resolution with Dual Regression Learning". Parameter names are those of the published files. Unlike
the published code, no image is clamped in training: pixels beyond black and white keep their gradient.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.drn import pair
from drc_deploy.models.network import ModelSpec, resolve_widths
from drc_deploy.models.transforms import energy, image_of, product, spectrum_of
from drc_deploy.slices import PrunableLayer, Slice

WHITE = 255.0
SLOPE = 0.1
"""Of LeakyReLU below zero."""
REDUCTION = 4
"""Of the trunk's channels, in the blurry path; and of those inside channel attention."""
RESIDUAL_BLOCKS = 3
LEAST_SIDE = 8
"""Three 3x3 convolutions without padding look at the features. Of 7 pixels one would be left, which exports burn in."""
LEAST_SUM = 0.1
"""Share of the sum of magnitudes that a kernel is divided by at least. That of a blur is 1."""
NO_SUM = 1e-12
"""And what it is divided by at least: new weights make a kernel of zeros of a black image."""
LEAST_SPECTRUM = 1e-8
"""Bound of the divisor of the deconvolution, far below its values: features without any detail would divide by zero."""


@dataclass(frozen=True, slots=True)
class DCLSConfig:
    """Size of a DCLS."""

    filters: tuple[int, ...]
    """Sides of the linear filters whose chain is the blur kernel."""
    features: int = 64
    groups: int = 5
    blocks: int = 10
    latent: int = 256
    """Length of the vector that the weights of all filters are computed from."""
    hidden: int = 16
    """Channels between the filters."""

    @property
    def kernel_size(self) -> int:
        """Side of the kernel in LR pixels."""
        return sum(self.filters) - len(self.filters) + 1

    @property
    def blurry(self) -> int:
        """Channels of the path that is not deconvolved."""
        return self.features // REDUCTION


def _uncast(x: Tensor) -> AbstractContextManager[None]:
    """Return a block in which torch's autocast leaves types as they are, on a device that has one."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _wide(x: Tensor) -> Tensor:
    """Return values of 16 bits in float32, and others as they are."""
    return x.float() if x.itemsize < torch.float32.itemsize else x


class ResidualBlock(nn.Module):
    """Two convolutions, added to the input."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, features, 3, padding=1)
        self.activation = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        result: Tensor = x + self.conv2(self.activation(self.conv1(x)))
        return result


class Estimator(nn.Module):
    """Estimates one blur kernel for each image, as a chain of linear filters that are made of a latent vector."""

    def __init__(self, config: DCLSConfig, widths: Iterator[int]) -> None:
        super().__init__()
        self.config, features = config, config.features
        self.head = nn.Sequential(nn.Conv2d(3, features, 7, padding=3))
        self.body = nn.Sequential(_residual_blocks(features, widths))
        latent = next(widths)
        self.tail = nn.Sequential(
            nn.Conv2d(features, features, 3),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(features, features, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(features, latent, 1),
            nn.Flatten(),
        )
        channels = [3, *(config.hidden,) * (len(config.filters) - 1), 3]
        self._shapes = [
            (made, read, side, side)
            for read, made, side in zip(channels[:-1], channels[1:], config.filters, strict=True)
        ]
        self.dec = nn.ModuleList(nn.Linear(latent, made * read * side**2) for made, read, side, _ in self._shapes)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 1, side, side) float32, for convolution with the sharp image.

        The sum is 1, and smaller in magnitude where positive and negative weights cancel out, as with new weights.
        """
        shallow = self.head(image)
        latent = self.tail(self.body(shallow) + shallow)
        filters = [decoder(latent).unflatten(1, shape) for decoder, shape in zip(self.dec, self._shapes, strict=True)]
        with _uncast(image):  # there are no transforms of 16 bits
            kernel = chained(list(map(_wide, filters)), self.config.kernel_size)
            return kernel / _sum_of(kernel)


def _sum_of(kernel: Tensor) -> Tensor:
    """Return the sum of each kernel, (N, 1, 1, 1), but no sum near zero: new weights make such kernels."""
    total, magnitude = (each.sum(dim=(2, 3), keepdim=True) for each in (kernel, kernel.abs()))
    least = (LEAST_SUM * magnitude).clamp_min(NO_SUM)
    return torch.where(total.abs() < least, torch.where(total < 0, -least, least), total)


def chained(filters: Sequence[Tensor], side: int) -> Tensor:
    """Return the kernel of a chain of convolutions: from an image that is the same in all channels to their mean.

    The chain is the product of the filters' transforms: with as many points as the kernel has, nothing wraps around.

    Args:
        filters: (N, made, read, f, f) each, in the order in which they are applied.
        side: Of the kernel: the sum of all f less their number plus 1.

    Returns:
        (N, 1, side, side).
    """
    first, *others = (spectrum_of(each, side, side) for each in filters)
    seen = first[0].sum(dim=2), first[1].sum(dim=2)
    for read in others:
        every = product(read, (seen[0].unsqueeze(1), seen[1].unsqueeze(1)))
        seen = every[0].sum(dim=2), every[1].sum(dim=2)
    real, imaginary = (part.mean(dim=1, keepdim=True) for part in seen)
    return image_of((real, imaginary), side, side)


def deconvolved(features: Tensor, kernel: Tensor, smoothing: Tensor) -> Tensor:
    """Undo a blur by constrained least squares: what is sharp after it, and smooth by a filter of each channel.

    Minimises |kernel * x - features|^2 + |smoothing * x|^2 for each channel, in the Fourier domain.
    Features are continued by their edge values.

    Args:
        features: (N, C, H, W) float32.
        kernel: (N, 1, k, k) float32, the same for all channels.
        smoothing: (N, C, 3, 3) float32.

    Returns:
        (N, C, H, W) float32.
    """
    side = kernel.shape[-1]
    padded = F.pad(features, (side,) * 4, mode="replicate")
    height, width = padded.shape[-2:]
    blur, smooth = (spectrum_of(each, height, width, each.shape[-1] // 2) for each in (kernel, smoothing))
    divisor = (energy(blur) + energy(smooth)).clamp_min(LEAST_SPECTRUM)
    real, imaginary = product(spectrum_of(padded, height, width), blur, conjugate=True)
    return image_of((real / divisor, imaginary / divisor), height, width)[..., side:-side, side:-side]


class MeanOfParts(nn.Module):
    """Means of ``parts`` x ``parts`` regions, as of ``nn.AdaptiveAvgPool2d``, which exports burn their size into."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, parts, parts). Regions overlap by a pixel where sides cannot be divided."""
        rows, columns = (self._weights(x, side) for side in x.shape[-2:])
        return rows @ x @ columns.T

    def _weights(self, x: Tensor, side: int) -> Tensor:
        """Return what each pixel counts in the mean of each part: (parts, side)."""
        places, number = torch.arange(side, device=x.device), torch.arange(self.parts, device=x.device)[:, None]
        # Part i begins at i/parts of the side, rounded down, and ends at (i+1)/parts, rounded up.
        inside = ((places + 1) * self.parts > number * side) & (places * self.parts < (number + 1) * side)
        return inside.to(x.dtype) / inside.sum(dim=1, keepdim=True).to(x.dtype)


class LeastSquares(nn.Module):
    """Deconvolution of the features, in a quarter of their channels."""

    def __init__(self, features: int) -> None:
        super().__init__()
        few = features // REDUCTION
        self.reduce_feature = nn.Conv2d(features, few, 1)
        self.grad_filter = nn.Sequential(
            nn.Conv2d(few, few, 3),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(few, few, 3),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(few, few, 3),
            MeanOfParts(3),
            nn.Conv2d(few, few, 1),
        )
        self.expand_feature = nn.Conv2d(few, features, 1)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """(N, C, H, W) and (N, 1, k, k) -> (N, C, H, W)."""
        few = self.reduce_feature(x)
        logits = self.grad_filter(few)
        with _uncast(x):  # the divisor spans more than 16 bits hold
            smoothing = _wide(logits).exp()
            # Without its mean it is blind to flat features: the divisor is 1 there, that of the kernel.
            smoothing = smoothing - smoothing.mean(dim=(2, 3), keepdim=True)
            sharp = deconvolved(_wide(few), kernel, smoothing)
        result: Tensor = self.expand_feature(sharp.to(few.dtype))
        return result


class ChannelAttention(nn.Module):
    """Weights channels by their means over the image."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(features, features // REDUCTION, 1),
            nn.ReLU(),
            nn.Conv2d(features // REDUCTION, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        result: Tensor = x * self.conv_du(self.avg_pool(x))
        return result


class DualPathBlock(nn.Module):
    """A block of the sharp path and one of the blurry path, which the sharp one reads."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        few = features // REDUCTION
        self.body1, self.body2 = _two_convolutions(features, width), _two_convolutions(few, few)
        self.CA_body1 = nn.Sequential(
            nn.LeakyReLU(SLOPE), nn.Conv2d(features + few, features, 3, padding=1), ChannelAttention(features)
        )
        self.CA_body2 = ChannelAttention(few)

    def forward(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) and (N, C/4, H, W) -> the same shapes."""
        of_sharp, of_blurry = self.body1(sharp), self.body2(blurry)
        return sharp + self.CA_body1(torch.cat((of_sharp, of_blurry), 1)), blurry + self.CA_body2(of_blurry)


def _two_convolutions(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(features, width, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(width, features, 3, padding=1)
    )


def _residual_blocks(features: int, widths: Iterator[int]) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(features, next(widths)) for _ in range(RESIDUAL_BLOCKS)))


class DualPathGroup(nn.Module):
    """Blocks in a row, whose results are doubled."""

    def __init__(self, config: DCLSConfig, widths: Iterator[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(*(DualPathBlock(config.features, next(widths)) for _ in range(config.blocks)))

    def forward(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) and (N, C/4, H, W) -> the same shapes."""
        for block in self.body:
            sharp, blurry = block(sharp, blurry)
        # The published code adds the group's input, which its blocks have written over by then: the result itself.
        return 2 * sharp, 2 * blurry


class Restorer(nn.Module):
    """Makes the image, of the image and its kernel."""

    def __init__(self, config: DCLSConfig, scale: int, widths: Iterator[int]) -> None:
        super().__init__()
        features = config.features
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.feature_block = _residual_blocks(features, widths)
        self.head1 = nn.Conv2d(features, config.blurry, 3, padding=1)
        self.head2 = LeastSquares(features)
        self.body = nn.ModuleList(DualPathGroup(config, widths) for _ in range(config.groups))
        self.fusion = nn.Conv2d(features + config.blurry, features, 3, padding=1)
        self.upscale = nn.Sequential(*_upscaler(features, scale))

    def forward(self, image: Tensor, kernel: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] and (N, 1, k, k) -> (N, 3, scale*H, scale*W)."""
        shallow = self.conv_first(image)
        x = self.feature_block(shallow)
        sharp, blurry = self.head2(x, kernel), self.head1(x)
        for group in self.body:
            sharp, blurry = group(sharp, blurry)
        result: Tensor = self.upscale(self.fusion(torch.cat((blurry, sharp), 1)) + shallow)
        return result


def _upscaler(features: int, scale: int) -> Iterator[nn.Module]:
    for factor in (2, 2) if scale == 4 else (scale,):
        yield nn.Conv2d(features, features * factor**2, 3, padding=1)
        yield nn.PixelShuffle(factor)
    yield nn.Conv2d(features, 3, 3, padding=1)


class DCLS(BlindNetwork):
    """The estimator of the kernel, and the restorer that is handed it."""

    minimum = LEAST_SIDE
    kernel_module = "Estimator"
    global_operations = True  # means over the image, and a deconvolution of all of it

    def __init__(self, spec: ModelSpec, config: DCLSConfig) -> None:
        super().__init__()
        self.spec, self.config, self.kernel_size = spec, config, config.kernel_size
        self.prunable_layers = tuple(_prunable_layers(config))
        full = [(layer.name, layer.full_width) for layer in self.prunable_layers]
        self.widths = resolve_widths(spec.widths, full, spec.name)
        # conv_first, the residual blocks, fusion and the upscaler; three convolutions a block.
        self.receptive_field = 1 + 2 * RESIDUAL_BLOCKS + 3 * config.groups * config.blocks + 1 + 3
        widths = iter(self.widths)
        self.Estimator = Estimator(config, widths)
        self.Restorer = Restorer(config, spec.scale, widths)
        last = len(self.Restorer.upscale) - 1
        self.global_means = tuple(
            f"{name}.avg_pool" for name, part in self.named_modules() if isinstance(part, ChannelAttention)
        )
        self.image_modules = ("Estimator.head.0", "Restorer.conv_first", f"Restorer.upscale.{last}")
        self.float32_modules = self.image_modules
        # As published. All else begins as torch has it: larger weights would grow through 50 blocks.
        self.Estimator.apply(lambda module: _initialise(module, 1.0))
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                block.apply(lambda module: _initialise(module, 0.1))

    def _estimate(self, lr: Tensor) -> Tensor:
        kernel: Tensor = self.Estimator(lr / WHITE)
        return kernel

    def _restore(self, lr: Tensor, kernel: Tensor) -> Tensor:
        sr: Tensor = _wide(self.Restorer(lr / WHITE, kernel)) * WHITE
        return sr


@torch.no_grad()
def _initialise(module: nn.Module, share: float) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        module.weight *= share
        assert module.bias is not None
        module.bias.zero_()


def _prunable_layers(config: DCLSConfig) -> Iterator[PrunableLayer]:
    """List the inner widths in the order of the authors' channel configuration files."""
    features = config.features
    for block in range(RESIDUAL_BLOCKS):
        body = f"Estimator.body.0.{block}"
        yield pair(f"estimator.block{block}", features, f"{body}.conv1", f"{body}.conv2")
    made = (Slice("Estimator.tail.4.weight", 0), Slice("Estimator.tail.4.bias", 0))
    read = tuple(Slice(f"Estimator.dec.{number}.weight", 1) for number in range(len(config.filters)))
    yield PrunableLayer("latent", config.latent, made, read)
    for block in range(RESIDUAL_BLOCKS):
        body = f"Restorer.feature_block.{block}"
        yield pair(f"restorer.block{block}", features, f"{body}.conv1", f"{body}.conv2")
    for group in range(config.groups):
        for block in range(config.blocks):
            body = f"Restorer.body.{group}.body.{block}.body1"
            yield pair(f"group{group}.block{block}", features, f"{body}.0", f"{body}.2")
