"""From classes of ids to prunable layers, and why some channels are none."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from drc_deploy.models.coupling.ids import Classes
from drc_deploy.slices import PrunableLayer, Slice

Axis = tuple[str, int]
"""A tensor of the state dict, and one of its axes."""
Channel = Mapping[Axis, Sequence[int]]
"""All indices that go with one channel, ascending, by axis."""
Side = Literal["out", "in"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Channels that are not offered for pruning."""

    name: str
    """Module that makes them; empty where it concerns the whole network."""
    reason: str
    """Half a sentence in plain words."""


def layer_sides(net: nn.Module) -> dict[Axis, Side]:
    """Return the axes of weights that make channels, and those that read them, for the layers that can be cut."""
    sides: dict[Axis, Side] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if isinstance(module, nn.ConvTranspose2d) and module.groups == 1:
            sides |= {(f"{name}.weight", 0): "in", (f"{name}.weight", 1): "out"}
        elif isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            sides |= {(f"{name}.weight", 0): "out", (f"{name}.weight", 1): "in"}
    return sides


@dataclass(frozen=True, slots=True)
class Grouping:
    """What decides how channels become layers."""

    sides: Mapping[Axis, Side]
    order: Mapping[str, tuple[int, int]]
    """When each tensor is first used, and its place in the state dict."""
    shared: frozenset[str]
    """Tensors that have more than one name."""
    colours: int
    """Channels of the image. So few are worth no cut, and mostly are the colours themselves, shifted by a mean."""

    def producers(self, axes: Iterable[Axis]) -> list[Axis]:
        """Return those axes that make channels, in the order of computation."""
        return sorted((axis for axis in axes if self.sides.get(axis) == "out"), key=self.rank)

    def rank(self, axis: Axis) -> tuple[int, int]:
        """Return where a tensor stands in the order of computation."""
        return self.order[axis[0]]


def group_channels(classes: Classes, grouping: Grouping) -> tuple[list[PrunableLayer], list[LeftOut]]:
    """Return the layers in the order of computation, and what else makes channels."""
    alike: dict[tuple[str, frozenset[tuple[Axis, int]]], list[Channel]] = defaultdict(list)
    for channel, reason in _channels(classes):
        alike[reason, frozenset((axis, len(indices)) for axis, indices in channel.items())].append(channel)
    layers: list[PrunableLayer] = []
    left_out: list[LeftOut] = []
    for (reason, _), channels in alike.items():
        producers = grouping.producers(channels[0])
        found = reason or _layer(channels, producers, grouping)
        if isinstance(found, PrunableLayer):
            layers.append(found)
        elif found:
            left_out += [
                LeftOut(_module(tensor), found) for tensor, _ in producers or _loose(channels[0], grouping)[:1]
            ]
    layers.sort(key=lambda layer: (grouping.order[layer.made[0].tensor], layer.made[0].start))
    left_out.sort(key=lambda each: each.name)
    return _with_unique_names(layers), list(dict.fromkeys(left_out))


def _channels(classes: Classes) -> Iterator[tuple[Channel, str]]:
    """Yield all that goes together, with the reason if it cannot be cut."""
    members: dict[int, dict[Axis, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, slot in enumerate(classes.slots, 1):
        members[classes.root(number)][slot.tensor, slot.axis].append(slot.index)
    for root, channel in members.items():
        yield channel, classes.reason(root)


def _loose(channel: Channel, grouping: Grouping) -> list[Axis]:
    """Return what makes a channel that no layer makes but some layer reads."""
    if any(grouping.sides.get(axis) == "in" for axis in channel):
        return [axis for axis in channel if axis not in grouping.sides]
    return []


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0] if tensor.endswith(".weight") else tensor


def _layer(channels: Sequence[Channel], producers: Sequence[Axis], grouping: Grouping) -> PrunableLayer | str:
    """Return the layer that channels with the same axes make, or why they make none."""
    readers = sorted((axis for axis in channels[0] if grouping.sides.get(axis) == "in"), key=grouping.rank)
    fault = _fault(channels, producers, readers, grouping)
    if fault:
        return fault
    made = sorted((axis for axis in channels[0] if axis not in readers), key=grouping.rank)
    made.sort(key=lambda axis: axis != producers[0])
    ordered = sorted(channels, key=lambda channel: channel[producers[0]][0])
    slices = {axis: _slices(axis, [channel[axis] for channel in ordered]) for axis in (*made, *readers)}
    if not all(slices.values()):
        return "its channels come in an order that is no regular one"
    return PrunableLayer(
        _module(producers[0][0]),
        len(channels),
        tuple(s for axis in made for s in slices[axis]),
        tuple(s for axis in readers for s in slices[axis]),
    )


def _fault(channels: Sequence[Channel], producers: Sequence[Axis], readers: Sequence[Axis], grouping: Grouping) -> str:
    """Return why channels make no layer; empty if they may."""
    shared = [tensor for tensor, _ in channels[0] if tensor in grouping.shared]
    if shared:
        return f"{shared[0]} has more than one name"
    if not producers:
        return "what makes its channels belongs to no Conv2d, ConvTranspose2d or Linear"
    if not readers:
        return "no Conv2d, ConvTranspose2d or Linear reads its channels"
    if grouping.rank(producers[-1])[0] >= grouping.rank(readers[0])[0]:
        return "its channels are a sum over the whole trunk"
    return "it has no more channels than the image" if len(channels) <= grouping.colours else ""


def _slices(axis: Axis, channels: Sequence[Sequence[int]]) -> list[Slice]:
    """Return where channels lie along an axis, given the indices of each; empty if that is not regular."""
    runs = [_runs(indices) for indices in channels]
    slices = [Slice(*axis, start, length) for start, length in runs[0]]
    for number, each in enumerate(runs):
        if each != [(s.start + s.group * number, s.group) for s in slices]:
            return []
    return slices


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and count of each run of consecutive numbers."""
    starts = [i for i, index in enumerate(indices) if i == 0 or index != indices[i - 1] + 1]
    return [(indices[a], b - a) for a, b in zip(starts, [*starts[1:], len(indices)], strict=True)]


def _with_unique_names(layers: Sequence[PrunableLayer]) -> list[PrunableLayer]:
    """Add the place among the channels of a module, where several layers share it."""
    counts = Counter(layer.name for layer in layers)
    return [
        replace(layer, name=f"{layer.name}[{layer.made[0].start}:]") if counts[layer.name] > 1 else layer
        for layer in layers
    ]
