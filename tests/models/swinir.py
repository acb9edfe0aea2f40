"""Published widths of SwinIR-light-DRC, a small SwinIR, and spandrel's network of the same size."""

import torch
from torch import nn

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import SWINIR_LIGHT
from drc_deploy.models.swinir import SwinIR, SwinIRConfig
from drc_deploy.models.zoo import build

HEADS = SWINIR_LIGHT.heads
# Attention of all heads together, then MLP, block by block: the list that the authors published.
_PUBLISHED = """
    48 64 48 36 48 36 48 36 48 36 48 48
    36 48 48 48 36 48 48 36 48 40 48 40
    48 76 48 36 48 36 48 36 36 36 48 48
    48 36 48 36 36 36 48 64 48 64 48 72
"""
PUBLISHED_WIDTHS = tuple(
    int(width) if number % 2 else int(width) // HEADS for number, width in enumerate(_PUBLISHED.split())
)
SMALL = SwinIRConfig(features=24, depths=(2, 3), heads=6, upsampler="pixelshuffledirect")
SMALL_CLASSICAL = SwinIRConfig(features=16, depths=(2,), heads=2, upsampler="pixelshuffle")
COMPUTED = ("attn_mask", "relative_position_index")


def small_swinir(spec: ModelSpec = ModelSpec("swinir_small", 4), config: SwinIRConfig = SMALL) -> SwinIR:  # noqa: B008
    """Build a small SwinIR whose attention is not nearly uniform, as that of a fresh one is."""
    torch.manual_seed(1)
    network = SwinIR(spec, config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def spandrel_swinir(config: SwinIRConfig, scale: int) -> nn.Module:
    """Build spandrel's network, which maps (N, 3, H, W) in [0, 1]."""
    settings = {
        "upscale": scale,
        "img_size": 64,
        "embed_dim": config.features,
        "depths": list(config.depths),
        "num_heads": [config.heads] * len(config.depths),
        "window_size": 8,
        "mlp_ratio": 2,
        "upsampler": config.upsampler,
    }
    return build("spandrel.architectures.SwinIR.__arch.SwinIR:SwinIR", settings).eval()
