"""What every super-resolution network of the zoo offers to training, search, pruning and export."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from drc_deploy.checkpoint_info import DualDesign, ForeignSpec
from drc_deploy.engine_info import taken_side
from drc_deploy.errors import UsageError
from drc_deploy.slices import PrunableLayer, placed

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Names one network: the same spec always builds the same layers."""

    name: str
    """Architecture, for example ``drn_s``."""
    scale: int
    """Upscaling factor."""
    widths: tuple[int, ...] | None = None
    """Channels of each prunable layer in the model's order; None for the unpruned network."""
    foreign: ForeignSpec | None = None
    """How to build a network that ``registry.MODELS`` does not name."""


class SRNetwork(nn.Module, abc.ABC):
    """A super-resolution network over RGB images in [0, 255].

    Attributes:
        spec: What was asked of the builder.
        float32_modules: Modules that stay in float32 when torch runs the body in fewer bits: those that touch the
            0..255 range. The last of them makes the image.
        image_modules: Modules that take or give an image. Mixed-precision training keeps them in float32: bfloat16 has
            8 bits of precision, as many as an image has.
        prunable_layers: The layers that search and pruning may narrow, in the order of computation, as they lie in the
            unpruned network.
        widths: Channels that each prunable layer has now.
        receptive_field: How far an output pixel sees on each side through local operations, in input pixels.
        global_operations: Whether some operation sees the whole input, such as channel attention, or how large it is:
            no tile computes exactly what the whole image does.
        global_means: Modules that take the mean over the whole input, (N, C, H, W) -> (N, C, 1, 1), each once in
            ``upscale``; H and W are multiples of those of the input. Empty where something else sees the whole input,
            except what estimates a blur kernel and what undoes the blur.
        multiple_of: Sides of every input and places of tiles are multiples of this, in input pixels: windows of
            attention lie on such a grid.
        minimum: Least side of an input, in input pixels.
        one_image: Whether ``forward`` makes the finest image alone. Then the only dual is a single one.
    """

    spec: ModelSpec
    float32_modules: tuple[str, ...]
    image_modules: tuple[str, ...]
    prunable_layers: tuple[PrunableLayer, ...]
    widths: tuple[int, ...]
    receptive_field: int
    global_operations: bool
    global_means: tuple[str, ...] = ()
    multiple_of: int = 1
    minimum: int = 1
    one_image: bool = False

    @abc.abstractmethod
    def forward(self, lr: Tensor) -> list[Tensor]:
        """Return the image at every scale, coarse to fine.

        Args:
            lr: (N, 3, H, W) float32 in [0, 255].

        Returns:
            Images of 1x, 2x, ... scale times the input's size, float32, unclamped. The last is the result.
        """

    @abc.abstractmethod
    def upscale(self, lr: Tensor) -> Tensor:
        """Return only the finest image: (N, 3, scale*H, scale*W) float32, unclamped."""

    @abc.abstractmethod
    def build_duals(self, design: DualDesign = "progressive") -> nn.ModuleList:
        """Build the dual networks.

        Number i maps an image of scale 2^(i+1) to one of scale 2^i; a single one maps the finest image to scale 1.
        """

    def adopt(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights of another network as far as they can be had under the names and shapes here."""
        return weights

    @property
    def present_layers(self) -> tuple[PrunableLayer, ...]:
        """Prunable layers as they lie in this network, with its widths."""
        return placed(self.prunable_layers, self.widths)

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.spec.scale

    @property
    def parameter_count(self) -> int:
        """Number of parameters, the frozen mean shifts included, the dual networks not."""
        return sum(parameter.numel() for parameter in self.parameters())

    def convolution(self, name: str) -> nn.Conv2d:
        """Return the convolution of that module name."""
        module = self.get_submodule(name)
        assert isinstance(module, nn.Conv2d)
        return module

    def taken_side(self, side: int) -> int:
        """Return the least side of an input, at least ``side``, that the network takes."""
        return taken_side(side, self.multiple_of, self.minimum)

    def cast_body(self, dtype: torch.dtype) -> None:
        """Turn the weights to ``dtype`` in place, except those of ``float32_modules``.

        ``forward`` and ``upscale`` cast at the two borders by themselves; their input and output stay float32. Exports
        are lowered in their graph instead, layer by layer.
        """
        kept = [self.get_submodule(name) for name in self.float32_modules]
        # Put back afterwards, since going to float16 and back would round them.
        weights = [{name: value.clone() for name, value in module.state_dict().items()} for module in kept]
        self.to(dtype)
        for module, state in zip(kept, weights, strict=True):
            module.float().load_state_dict(state)


def resolve_widths(widths: Sequence[int] | None, layers: Sequence[tuple[str, int]], model: str) -> tuple[int, ...]:
    """Check a list of widths against (name, full width) of each prunable layer; None means all full.

    Raises:
        UsageError: another number of layers, or a width below 1 or above the full one.
    """
    if widths is None:
        return tuple(full for _, full in layers)
    if len(widths) != len(layers):
        raise UsageError(
            f"{model} has {len(layers)} prunable layers, but {len(widths)} widths were given.",
            "Give the widths of this model: one integer per prunable layer.",
        )
    for width, (name, full) in zip(widths, layers, strict=True):
        if not 1 <= width <= full:
            raise UsageError(f"width {width} of layer {name} of {model} is impossible.", f"Give 1 to {full} there.")
    return tuple(widths)


def lay_channels_last(module: AnyModule) -> AnyModule:
    """Lay the tensors of images and kernels out channels last, in place, where convolutions are fastest.

    ``Module.to`` refuses modules that have tensors of five dimensions.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Modules whose multiply-adds are counted."""


def uses_of_weights(network: SRNetwork, height: int, width: int) -> dict[str, int]:
    """Return how often each weight and bias of ``WEIGHTED`` modules is used for one input: tensor name -> count.

    A convolution uses each number of its kernel once per output pixel and image, a transposed one once per input pixel.
    The network is moved to the ``meta`` device, where nothing is computed; one of another program, which may look at
    values, to the CPU. The input is enlarged to sides that the network takes.
    """
    device = "cpu" if network.spec.foreign else "meta"
    height, width = map(network.taken_side, (height, width))
    uses: dict[str, int] = {}
    names: dict[nn.Module, str] = {m: name for name, m in network.named_modules() if isinstance(m, WEIGHTED)}

    def count(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        image, output = _first_tensor((*inputs, *named.values())), _first_tensor(result)
        channels = -1 if isinstance(module, nn.Linear) else 1
        places = image if isinstance(module, nn.ConvTranspose2d) else output
        for leaf, counted in (("weight", places), ("bias", output)):
            name = f"{names[module]}.{leaf}"
            uses[name] = uses.get(name, 0) + counted.numel() // counted.shape[channels]

    handles = [module.register_forward_hook(count, with_kwargs=True) for module in names]
    try:
        with torch.no_grad():
            network.to(device)(torch.zeros(1, 3, height, width, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return uses


def _first_tensor(values: Any) -> Tensor:
    """Return the first tensor of what a module was called with or gave, which code of others does in many ways."""
    return next(value for value in tree_leaves(values) if isinstance(value, Tensor))


def multiply_adds(network: SRNetwork, height: int = 96, width: int = 96) -> int:
    """Count multiply-adds for one input of ``height`` x ``width``, in the convention of the DRN authors.

    Every convolution and linear layer counts its multiplications and, if it has one, its bias additions; the mean
    shifts and all auxiliary outputs are included. Interpolation, activations, the products inside attention and the
    dual networks are not. For the device see ``uses_of_weights``.
    """
    uses = uses_of_weights(network, height, width)
    return sum(uses.get(name, 0) * parameter.numel() for name, parameter in network.named_parameters())
