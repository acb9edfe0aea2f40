"""What a network costs as a function of its widths: parameters, multiply-adds or milliseconds."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from drc_deploy.errors import UsageError
from drc_deploy.latency_table import LatencyTable
from drc_deploy.models.network import ModelSpec, SRNetwork, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.train.pruning.partial_forward import Recorder
from drc_deploy.widths import Target

LR_SIDE = 96
"""Multiply-adds are counted for an input of this height and width, as in the paper."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """A cost that is a sum over the prunable layers, which holds because only inner widths are prunable."""

    target: Target
    unit: str
    fixed: float
    """Cost of all that pruning does not change."""
    points: tuple[tuple[tuple[int, float], ...], ...]
    """For each prunable layer (width, cost) with rising widths; between them the cost is linear."""

    def of_layer(self, index: int, width: int) -> float:
        """Return what one prunable layer, producer and consumer, costs at a width."""
        widths, costs = zip(*self.points[index], strict=True)
        return float(np.interp(width, widths, costs))

    @property
    def full(self) -> float:
        """What the unpruned network costs."""
        return self.fixed + sum(points[-1][1] for points in self.points)

    def total(self, widths: Sequence[int]) -> float:
        """Return what the network costs with these widths."""
        return self.fixed + sum(self.of_layer(index, width) for index, width in enumerate(widths))


@dataclass(frozen=True, slots=True)
class CostBudget:
    """The most that a pruned network may cost."""

    cost: CostModel
    limit: float


def budget_for(cost: CostModel, full_widths: Sequence[int], ratio: float) -> CostBudget:
    """Allow (1 - ratio) of what the unpruned network costs (paper, Equation 2)."""
    return CostBudget(cost, (1 - ratio) * cost.total(full_widths))


def cost_model(spec: ModelSpec, target: Target, latency: LatencyTable | None = None) -> CostModel:
    """Return the cost of a model's networks.

    Args:
        spec: The model; its widths play no part.
        target: What is counted: "params", "madds" (of a 96x96 input) or "latency".
        latency: What "latency" is looked up in.

    Raises:
        UsageError: "latency" without a table or with one of other layers, or "channels", which is no cost of the whole
            network.
    """
    if target == "latency":
        if latency is None:
            raise UsageError("a bound on latency needs a latency table.", "Make one with `drc-deploy latency`.")
        return _latency_cost(spec, latency)
    if target == "channels":
        raise UsageError("channels are bounded layer by layer, not in sum.", "Name another target.")
    with torch.device("meta"):
        network = build_network(ModelSpec(spec.name, spec.scale))
    pixels = _output_pixels(network) if target == "madds" else None
    slopes = [_cost_per_channel(network, index, pixels) for index in range(len(network.prunable_layers))]
    total = multiply_adds(network, LR_SIDE, LR_SIDE) if target == "madds" else network.parameter_count
    full = [layer.full_width for layer in network.prunable_layers]
    fixed = total - sum(slope * width for slope, width in zip(slopes, full, strict=True))
    points = tuple(((0, 0.0), (width, slope * width)) for slope, width in zip(slopes, full, strict=True))
    return CostModel(target, "multiply-adds" if target == "madds" else "parameters", fixed, points)


def _latency_cost(spec: ModelSpec, table: LatencyTable) -> CostModel:
    with torch.device("meta"):
        layers = build_network(ModelSpec(spec.name, spec.scale)).prunable_layers
    timed = [(name, points[-1][0]) for name, points in zip(table.layers, table.points, strict=True)]
    if timed != [(layer.name, layer.full_width) for layer in layers]:
        raise UsageError(
            f"the latency table does not hold the layers of {spec.name} x{spec.scale} up to their full widths.",
            f"Make it again: drc-deploy latency {spec.name}.",
        )
    return CostModel("latency", "ms", table.fixed_ms, table.points)


def _cost_per_channel(network: SRNetwork, index: int, pixels: dict[str, int] | None) -> float:
    """Count what one more input channel of the consumer costs, with the producer's outputs that make it."""
    layer = network.prunable_layers[index]
    consumer, producer = network.convolution(layer.consumer), network.convolution(layer.producer)
    per_output = producer.weight[0].numel() + (producer.bias is not None)
    made, read = layer.group * per_output, consumer.weight[:, 0].numel()
    return made * pixels[layer.producer] + read * pixels[layer.consumer] if pixels else made + read


def _output_pixels(network: SRNetwork) -> dict[str, int]:
    """Return the number of output pixels of every convolution for the input that multiply-adds are counted for."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad(), ExitStack() as stack:
        recorders = [stack.enter_context(Recorder(network, name)) for name in names]
        network(torch.empty(1, 3, LR_SIDE, LR_SIDE, device="meta"))
    return {name: recorder.output[0, 0].numel() for name, recorder in zip(names, recorders, strict=True)}
