"""Channel gates: a factor for each input channel of a prunable layer, and what else may stand in for the layer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork

Replacement = Callable[[Tensor], Tensor]
"""Computes what a convolution would: its input to its output."""


@contextmanager
def replaced(network: SRNetwork, replacements: Mapping[str, Replacement]) -> Iterator[None]:
    """Let other functions stand in for convolutions while the block runs.

    Args:
        network: Changed only inside the block.
        replacements: Module name of the convolution -> what is computed instead.
    """
    convolutions = [network.convolution(name) for name in replacements]
    for convolution, replacement in zip(convolutions, replacements.values(), strict=True):
        convolution.forward = replacement  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for convolution in convolutions:
            del convolution.forward  # the class's own is there again


def convolve(convolution: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Compute a convolution, which pads with zeros, with other weights."""
    return torch.nn.functional.conv2d(
        x, weight, convolution.bias, convolution.stride, convolution.padding, convolution.dilation
    )


def convolution_like(model: nn.Module, in_channels: int | None = None, out_channels: int | None = None) -> nn.Conv2d:
    """Return a new convolution like ``model``, with other numbers of channels."""
    assert isinstance(model, nn.Conv2d)
    return nn.Conv2d(
        in_channels or model.in_channels,
        out_channels or model.out_channels,
        model.kernel_size,  # type: ignore[arg-type]
        model.stride,  # type: ignore[arg-type]
        model.padding,  # type: ignore[arg-type]
        bias=model.bias is not None,
    )


def channel_energy(consumer: nn.Conv2d, x: Tensor) -> Tensor:
    """Rate each input channel by what it adds to the output: (C,) float, no gradient.

    The mean square of the channel times the sum of squares of the weights that read it. Unlike the L1 norm of the
    weights alone (DRC paper, Section 4.1) this stays the same where a producer gives less and its consumer makes up
    for it, as any pair around a ReLU may.

    Args:
        consumer: The convolution.
        x: (N, C, H, W), what it reads.
    """
    return consumer.weight.detach().square().sum(dim=(0, 2, 3)) * x.detach().square().mean(dim=(0, 2, 3))


def ranked(importance: Tensor) -> Tensor:
    """Return the rank of each of (C,) channels, 0 for the most important: (C,) int."""
    order = importance.argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank


def mixture_gate(alpha: Tensor, candidates: Tensor, rank: Tensor) -> Tensor:
    """Return the factors that mix all candidate widths in one convolution.

    The candidates share weights, and each keeps the channels of the first ranks. A channel of rank q (0 is the first)
    is kept by every candidate wider than q, so its factor is the sum of their softmax probabilities. For a convolution
    this equals the probability-weighted sum of the candidates' outputs (DRC paper, Equation 3).

    Args:
        alpha: (V,) logits of the candidates; gradients flow into them.
        candidates: (V,) int, the widths.
        rank: (C,) int, the rank of each input channel.

    Returns:
        (C,) factors in [0, 1].
    """
    kept_by = (candidates[:, None] > rank[None, :]).to(alpha.dtype)  # (V, C)
    return torch.softmax(alpha, dim=0) @ kept_by
