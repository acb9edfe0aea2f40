"""What a network costs as a function of its widths: parameters, multiply-adds or milliseconds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.errors import UsageError
from drc_deploy.latency_table import LatencyTable
from drc_deploy.models.network import ModelSpec, SRNetwork, uses_of_weights
from drc_deploy.models.registry import build_network
from drc_deploy.slices import PrunableLayer
from drc_deploy.widths import Target

LR_SIDE = 96
"""Multiply-adds are counted for an input of this height and width, as in the paper."""
FloatArray = NDArray[np.float64]
Expectation = Callable[[Tensor], Tensor]
"""From the (layers, V) chances of the candidates to the mean cost: a scalar, float64. Gradients flow. All that it needs
is on the device already, so that it can be recorded as a CUDA graph."""


class CostModel(Protocol):
    """A cost of a network whose layers have certain widths; a wider layer never costs less."""

    @property
    def unit(self) -> str:
        """In what the cost is counted."""

    def total(self, widths: Sequence[float]) -> float:
        """Return what the network costs with these widths."""

    def expectation(self, candidates: Tensor) -> Expectation:
        """Return the mean cost where each layer draws its width by itself, as a function of the chances.

        Args:
            candidates: (layers, V) widths.
        """


@dataclass(frozen=True, slots=True)
class SumOfLayers:
    """A cost that is a sum over the layers, each measured at some widths."""

    unit: str
    fixed: float
    """Cost of all that pruning does not change."""
    points: tuple[tuple[tuple[int, float], ...], ...]
    """For each prunable layer (width, cost) with rising widths; between them the cost is linear."""

    def total(self, widths: Sequence[float]) -> float:
        """Return what the network costs with these widths."""
        return self.fixed + sum(_between(points, width) for width, points in zip(widths, self.points, strict=True))

    def expectation(self, candidates: Tensor) -> Expectation:
        """Return the mean cost of chances; see ``CostModel.expectation``."""
        rows = zip(candidates.tolist(), self.points, strict=True)
        costs = _placed([[_between(points, width) for width in row] for row, points in rows], candidates)
        return lambda shares: self.fixed + (shares.double() * costs).sum()


def _placed(numbers: FloatArray | list[list[float]], like: Tensor) -> Tensor:
    """Return numbers as a float64 tensor on the device of another."""
    return torch.as_tensor(numbers, dtype=torch.float64, device=like.device)


def _between(points: Sequence[tuple[int, float]], width: float) -> float:
    widths, costs = zip(*points, strict=True)
    return float(np.interp(width, np.array(widths), np.array(costs)))


@dataclass(frozen=True, slots=True)
class ProductOfWidths:
    """A cost that counts the numbers of weight tensors, each as often as it is used.

    Each tensor has as many as the product of its sides, and a side is a fixed number plus a multiple of each width that
    it holds. The cost is linear in each width, but for weights from a trunk to itself: the mean is a little low there.
    """

    unit: str
    uses: FloatArray
    """(T,) times that each number of a tensor counts, with its sides that no layer changes."""
    sides: tuple[tuple[FloatArray, FloatArray], ...]
    """Two: the fixed part (T,) and the multiples of the widths (T, layers)."""

    def total(self, widths: Sequence[float]) -> float:
        """Return what the network costs with these widths: exact, up to 2^53."""
        first, second = (fixed + multiples @ np.asarray(widths, float) for fixed, multiples in self.sides)
        return float(self.uses @ (first * second))

    def expectation(self, candidates: Tensor) -> Expectation:
        """Return the cost of the mean widths of chances; see ``CostModel.expectation``."""
        uses, *sides = (_placed(array, candidates) for array in (self.uses, *self.sides[0], *self.sides[1]))

        def mean(shares: Tensor) -> Tensor:
            widths = (shares.double() * candidates).sum(dim=1)
            first, second = (fixed + multiples @ widths for fixed, multiples in (sides[:2], sides[2:]))
            return uses @ (first * second)

        return mean


@dataclass(frozen=True, slots=True)
class MeetingLayers:
    """A time of layers that meet in weights, as in a chain of convolutions: each weight takes its share of both.

    A sum over layers would call two layers of half the width half as slow, where the weight between takes a quarter.
    """

    unit: str
    fixed: float
    """Cost of all that pruning does not change."""
    points: tuple[tuple[tuple[int, float], ...], ...]
    """As those of ``SumOfLayers``; only the share of the full width's cost counts."""
    weights: ProductOfWidths
    """What each weight costs, of widths whose share of the full one is that of the cost."""

    def total(self, widths: Sequence[float]) -> float:
        """Return what the network costs with these widths."""
        return self.fixed + self.weights.total([self._effective(i, width) for i, width in enumerate(widths)])

    def expectation(self, candidates: Tensor) -> Expectation:
        """Return the mean cost of chances; see ``CostModel.expectation``."""
        rows = [[self._effective(i, width) for width in row] for i, row in enumerate(candidates.tolist())]
        of_weights = self.weights.expectation(_placed(rows, candidates))
        return lambda shares: self.fixed + of_weights(shares)

    def _effective(self, index: int, width: float) -> float:
        full_width, full = self.points[index][-1]
        return full_width * _between(self.points[index], width) / full if full else full_width


@dataclass(frozen=True, slots=True)
class CostBudget:
    """The most that a pruned network may cost."""

    cost: CostModel
    limit: float
    full: float
    """What the unpruned network costs."""


def budget_for(cost: CostModel, full_widths: Sequence[int], ratio: float) -> CostBudget:
    """Allow (1 - ratio) of what the unpruned network costs (paper, Equation 2)."""
    full = cost.total(full_widths)
    return CostBudget(cost, (1 - ratio) * full, full)


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
    with torch.device("cpu" if spec.foreign else "meta"):
        network = build_network(ModelSpec(spec.name, spec.scale, None, spec.foreign))
    if target == "params":
        return _counted(network, "parameters", {name: 1 for name, _ in network.named_parameters()})
    return _counted(network, "multiply-adds", uses_of_weights(network, LR_SIDE, LR_SIDE))


def _latency_cost(spec: ModelSpec, table: LatencyTable) -> CostModel:
    with torch.device("meta"):
        network = build_network(ModelSpec(spec.name, spec.scale))
    layers = network.prunable_layers
    timed = [(name, points[-1][0]) for name, points in zip(table.layers, table.points, strict=True)]
    if timed != [(layer.name, layer.full_width) for layer in layers]:
        raise UsageError(
            f"the latency table does not hold the layers of {spec.name} x{spec.scale} up to their full widths.",
            f"Make it again: drc-deploy latency {spec.name}.",
        )
    in_all = [name for layer in layers for name in {s.tensor for s in layer.slices if s.tensor.endswith("weight")}]
    if len(in_all) == len(set(in_all)):
        return SumOfLayers("ms", table.fixed_ms, table.points)
    in_layers = [points[-1][1] for points in table.points]
    times = times_of_weights(network, in_layers, table.height, table.width)
    # A weight of two layers is in both times; all weights together take what all layers do.
    scale = sum(in_layers) / (sum(times.values()) or 1.0)
    uses = {name: scale * ms / network.get_parameter(name).numel() for name, ms in times.items()}
    counted = _counted(network, "ms", uses)
    return MeetingLayers("ms", table.fixed_ms, table.points, counted)


def times_of_weights(network: SRNetwork, times_ms: Sequence[float], height: int, width: int) -> dict[str, float]:
    """Divide the time of each layer among the two weights that are timed with it, by their multiply-adds.

    A weight that is timed with two layers takes the mean.

    Args:
        network: Unpruned; for its device see ``uses_of_weights``.
        times_ms: Milliseconds of the pair of weights of each prunable layer.
        height: Of the input that was timed.
        width: Of the same.

    Returns:
        Milliseconds by the names of the weights.
    """
    uses = uses_of_weights(network, height, width)
    parts: dict[str, list[float]] = {}
    for layer, ms in zip(network.prunable_layers, times_ms, strict=True):
        made, part = layer.made[0].tensor, layer.read[0]
        read = part.tensor
        madds = {name: uses[name] * network.get_parameter(name).numel() for name in (made, read)}
        # Behind a concatenation the reader was timed with this layer's channels alone.
        seen = layer.full_width * part.indices_per_channel / network.get_parameter(read).shape[part.axis]
        ms_each = ms / (madds[made] + seen * madds[read])
        for name, count in madds.items():
            parts.setdefault(name, []).append(ms_each * count)
    return {name: statistics.mean(found) for name, found in parts.items()}


def _counted(network: SRNetwork, unit: str, uses: Mapping[str, float]) -> ProductOfWidths:
    """Return the cost of counting each number of each parameter as often as ``uses`` says."""
    parameters = [(name, parameter) for name, parameter in network.named_parameters() if uses.get(name)]
    cut = _cut_axes(network.prunable_layers)
    count, layers = len(parameters), len(network.prunable_layers)
    times = np.array([float(uses[name]) for name, _ in parameters])
    sides = [(np.ones(count), np.zeros((count, layers))) for _ in range(2)]
    for row, (name, parameter) in enumerate(parameters):
        axes = [axis for axis in range(parameter.dim()) if (name, axis) in cut]
        for (fixed, multiples), axis in zip(sides, axes, strict=False):  # a tensor has an input and an output
            fixed[row] = parameter.shape[axis]
            for index, each in cut[name, axis]:
                multiples[row, index] += each
                fixed[row] -= each * network.prunable_layers[index].full_width
        times[row] *= np.prod([side for axis, side in enumerate(parameter.shape) if axis not in axes])
    return ProductOfWidths(unit, times, tuple(sides))


def _cut_axes(layers: Sequence[PrunableLayer]) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Return (number of the layer, indices per channel) of all layers along each axis of each tensor."""
    cut: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for index, layer in enumerate(layers):
        for part in layer.slices:
            cut.setdefault((part.tensor, part.axis), []).append((index, part.indices_per_channel))
    return cut
