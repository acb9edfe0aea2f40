"""Takes channels out of any module: out of its tensors, and out of a state dict."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from drc_deploy.slices import PrunableLayer


def narrow(net: nn.Module, layers: Sequence[PrunableLayer], widths: Sequence[int]) -> None:
    """Make the tensors of a module as narrow as these widths, in place, on whatever device they are.

    The first channels of each layer stay; a state dict from ``select_channels`` then fits, and holds the right ones.
    What modules of torch note about their sizes, such as ``out_channels``, follows.

    Args:
        net: Has the tensors that the slices name, as parameters or buffers.
        layers: As they lie in the module now.
        widths: Channels that stay in each, 1 up to its width.
    """
    lost = _lost(layers, [range(width) for width in widths])
    for name, axes in lost.items():
        path, _, leaf = name.rpartition(".")
        module = net.get_submodule(path)
        tensor = getattr(module, leaf)
        narrower = _without(tensor.detach(), axes)
        is_parameter = isinstance(tensor, nn.Parameter)
        setattr(module, leaf, nn.Parameter(narrower, tensor.requires_grad) if is_parameter else narrower)
    for path in dict.fromkeys(name.rpartition(".")[0] for name in lost):
        _note_sizes(net.get_submodule(path))


def select_channels(
    state: Mapping[str, Tensor], layers: Sequence[PrunableLayer], kept: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Return the state dict of the narrower module that keeps only these channels.

    Args:
        state: That of the module in which the layers lie; tensors that no layer names are handed on as they are.
        layers: As they lie in that module.
        kept: Channels that stay in each, ascending, at least one.
    """
    lost = _lost(layers, kept)
    return {name: _without(tensor, lost[name]) if name in lost else tensor for name, tensor in state.items()}


def mask_channels(
    state: Mapping[str, Tensor], layers: Sequence[PrunableLayer], kept: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Return the tensors that read the layers, with zeros for the channels that go: as good as a cut, at full size.

    Those that make queries of attention are among them.

    The arguments are those of ``select_channels``.
    """
    masked: dict[str, Tensor] = {}
    for layer, gone in zip(layers, _gone(layers, kept), strict=True):
        for s in layer.masking:
            tensor = masked.get(s.tensor, state[s.tensor])
            indices = torch.tensor(s.indices(gone, layer.full_width), dtype=torch.int64, device=tensor.device)
            masked[s.tensor] = tensor.index_fill(s.axis, indices, 0)
    return masked


def _gone(layers: Sequence[PrunableLayer], kept: Sequence[Collection[int]]) -> list[list[int]]:
    """Return the channels of each layer that are not kept."""
    return [sorted(set(range(layer.full_width)) - set(channels)) for layer, channels in zip(layers, kept, strict=True)]


def _lost(layers: Sequence[PrunableLayer], kept: Sequence[Collection[int]]) -> dict[str, dict[int, set[int]]]:
    """Return the indices that go, by tensor and axis."""
    lost: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for layer, gone in zip(layers, _gone(layers, kept), strict=True):
        for s in layer.slices if gone else ():
            lost[s.tensor][s.axis].update(s.indices(gone, layer.full_width))
    return lost


def _without(tensor: Tensor, lost: Mapping[int, Collection[int]]) -> Tensor:
    """Return a copy of a tensor without these indices of its axes."""
    for axis, indices in lost.items():
        kept = [index for index in range(tensor.shape[axis]) if index not in indices]
        tensor = tensor.index_select(axis, torch.tensor(kept, dtype=torch.int64, device=tensor.device))
    return tensor


def _note_sizes(module: nn.Module) -> None:
    """Set what a module of torch notes about its sizes to those of its weight."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        if isinstance(module, _NormBase) and module.running_mean is not None:
            module.num_features = len(module.running_mean)
    elif isinstance(module, _ConvNd):
        _note_convolution(module, *weight.shape[:2])
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)
    elif isinstance(module, _NormBase):
        module.num_features = len(weight)
    elif isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels:
        module.num_groups = module.num_channels = len(weight)


def _note_convolution(module: _ConvNd, rows: int, columns: int) -> None:
    if isinstance(module, _ConvTransposeNd):
        module.in_channels, module.out_channels = rows, columns * module.groups
        return
    if module.groups > 1:  # depthwise: as many outputs for each input as before
        module.groups = module.groups * rows // module.out_channels
    module.out_channels, module.in_channels = rows, columns * module.groups
