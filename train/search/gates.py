"""Channel gates: a factor for each channel of a prunable layer, and what else may stand in for the layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drc_deploy.train.reader import Reader

Gate = Callable[[Tensor], Tensor]
"""Computes a factor for each input channel of a module from what the module reads."""


@contextmanager
def gated(gates: Mapping[nn.Module, Gate], made: Mapping[nn.Module, Gate] | None = None) -> Iterator[None]:
    """Multiply what modules read, and what some make, by factors while the block runs.

    The first equals multiplying the weights that read it, for any module that is linear in its input.

    Args:
        gates: For convolutions: (N, C, H, W) -> (C,). For linear layers: (..., C) -> (C,).
        made: Likewise from the output of a module, for its output.
    """

    def gate(module: nn.Module, x: Tensor, compute: Gate) -> Tensor:
        factors = compute(x)
        return x * (factors if isinstance(module, nn.Linear) else factors[:, None, None])

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        (x,) = inputs
        return gate(module, x, gates[module])

    def after(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return gate(module, output, (made or {})[module])

    handles = [module.register_forward_pre_hook(before) for module in gates]
    handles += [module.register_forward_hook(after) for module in made or ()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


Replacement = Callable[[Tensor], Tensor]
"""Computes what a convolution would: its input to its output."""


@contextmanager
def replaced(replacements: Mapping[nn.Module, Replacement]) -> Iterator[None]:
    """Let other functions stand in for convolutions while the block runs."""
    for convolution, replacement in replacements.items():
        convolution.forward = replacement
    try:
        yield
    finally:
        for convolution in replacements:
            del convolution.forward  # the class's own is there again


def convolution_like(model: nn.Module, in_channels: int | None = None, out_channels: int | None = None) -> nn.Conv2d:
    """Return a new convolution like ``model``, with other numbers of channels."""
    assert isinstance(model, nn.Conv2d)
    return nn.Conv2d(
        in_channels or model.in_channels,
        out_channels or model.out_channels,
        model.kernel_size,  # type: ignore[arg-type]
        model.stride,  # type: ignore[arg-type]
        model.padding,  # type: ignore[arg-type]
        model.dilation,  # type: ignore[arg-type]
        padding_mode=model.padding_mode,
        bias=model.bias is not None,
    )


def channel_energy(layer_readers: Sequence[Reader], x: Tensor) -> Tensor:
    """Rate each channel of a layer by what it adds to the outputs of its readers: (C,) float, no gradient.

    The mean square of the channel times the sum of squares of the weights that read it. Unlike the L1 norm of the
    weights alone (``channel_norm``) this stays the same where a producer gives less and its consumer makes up
    for it, as any pair around a ReLU may.

    Args:
        layer_readers: All that reads the layer.
        x: What the first of them reads; the others read the same channels.
    """
    first, *_ = layer_readers
    read = first.channels(x.detach())
    others = [axis for axis in range(read.dim()) if axis != first.channel_axis % read.dim()]
    squares = read.square().mean(dim=others).view(first.width, first.group).mean(dim=1)
    kernels = [reader.kernels(reader.weight.detach()) for reader in layer_readers]
    weights = torch.stack([kernel.square().sum(dim=(1, 2, 3)) for kernel in kernels]).sum(dim=0)
    return weights * squares


def channel_norm(layer_readers: Sequence[Reader]) -> Tensor:
    """Rate each channel of a layer by the L1 norm of the weights that read it (DRC paper, Section 3.2.1): (C,)."""
    kernels = [reader.kernels(reader.weight.detach()) for reader in layer_readers]
    return torch.stack([kernel.abs().sum(dim=(1, 2, 3)) for kernel in kernels]).sum(dim=0)


def ranked(importance: Tensor) -> Tensor:
    """Return the rank of each of (C,) channels, 0 for the most important: (C,) int."""
    order = importance.argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank


def mixture_gate(alpha: Tensor, candidates: Tensor, rank: Tensor) -> Tensor:
    """Return the factors that mix all candidate widths in one pass.

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
