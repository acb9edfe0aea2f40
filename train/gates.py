"""Channel gates: a factor for each input channel of a prunable layer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork

Gate = Callable[[], Tensor]
"""Gives the factors, one per input channel; called in every forward pass."""


@contextmanager
def gated(network: SRNetwork, gates: Mapping[str, Gate]) -> Iterator[None]:
    """Multiply the input channels of convolutions by their gates while the block runs.

    Args:
        network: Changed only inside the block.
        gates: Module name of the convolution -> its gate.
    """
    handles = [network.convolution(name).register_forward_pre_hook(_gating_hook(g)) for name, g in gates.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gating_hook(gate: Gate) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def multiply(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * gate()[:, None, None], *inputs[1:])

    return multiply


def channel_importance(consumer: nn.Conv2d) -> Tensor:
    """Rate each input channel by the L1 norm of the weights that read it: (C,) float, no gradient."""
    return consumer.weight.detach().abs().sum(dim=(0, 2, 3))


def mixture_gate(alpha: Tensor, candidates: Tensor, consumer: nn.Conv2d) -> Tensor:
    """Give the factors that mix all candidate widths in one convolution.

    The candidates share weights, and each keeps the most important channels. A channel of rank q (0 is the most
    important) is kept by every candidate wider than q, so its factor is the sum of their softmax probabilities. For a
    convolution this equals the probability-weighted sum of the candidates' outputs (DRC paper, Equation 3).

    Args:
        alpha: (V,) logits of the candidates; gradients flow into them.
        candidates: (V,) int, the widths.
        consumer: The convolution whose input channels are chosen, ranked by its present weights.

    Returns:
        (C,) factors in [0, 1].
    """
    order = channel_importance(consumer).argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    kept_by = (candidates[:, None] > rank[None, :]).to(alpha.dtype)  # (V, C)
    return torch.softmax(alpha, dim=0) @ kept_by
