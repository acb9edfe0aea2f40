"""Networks of other programs behind the contract of ``SRNetwork``: those of spandrel, and code of one's own."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

from drc_deploy.checkpoint_info import ForeignSpec
from drc_deploy.errors import UsageError
from drc_deploy.models import own_code, zoo
from drc_deploy.models.cutting import narrow
from drc_deploy.models.network import WEIGHTED, ModelSpec, resolve_widths
from drc_deploy.models.one_image import OneImageNetwork
from drc_deploy.slices import PrunableLayer, Slice

WHITE = 255.0
_COUNTERS = "num_batches_tracked"
"""Of BatchNorm: used in training only, and no floating-point number as weights are."""


class ForeignNetwork(OneImageNetwork):
    """Any module of (N, C, H, W) to (N, C, scale*H, scale*W), over RGB images in [0, 255].

    Attributes:
        net: The module itself, prepared by ``prepare``.
    """

    def __init__(self, spec: ModelSpec, foreign: ForeignSpec) -> None:
        super().__init__()
        self.spec, self.foreign = spec, foreign
        with torch.device("cpu"):  # modules compute with what they make, which the device "meta" cannot
            self.net = prepare(_build(foreign), foreign.kept_buffers)
        self.float32_modules = ()
        self.prunable_layers = foreign.layers
        _check_layers(self, spec.name)
        full = [(layer.name, layer.full_width) for layer in self.prunable_layers]
        self.widths = resolve_widths(spec.widths, full, spec.name)
        narrow(self, self.prunable_layers, self.widths)
        self.receptive_field, self.global_operations = foreign.receptive_field, foreign.global_operations
        self.multiple_of, self.minimum = foreign.multiple_of, foreign.minimum
        if torch.get_default_device().type == "meta":
            self.to("meta")

    @functools.cached_property
    def image_modules(self) -> tuple[str, ...]:  # type: ignore[override]  # of those it has, found at first need
        """The modules with weights that run first and last: one takes the image and one makes it."""
        ran: list[str] = []
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
            for name, module in self.named_modules()
            if isinstance(module, WEIGHTED)
        ]
        side = self.taken_side(self.minimum)
        with torch.no_grad():
            self.compute(next(self.parameters()).new_zeros(1, 3, side, side))
        for hook in hooks:
            hook.remove()
        return tuple(dict.fromkeys((ran[0], ran[-1]))) if ran else ()

    def train(self, mode: bool = True) -> "ForeignNetwork":
        """Leave the module in evaluation mode: statistics stay as imported, and no two passes differ by chance."""
        super().train(mode)
        self.net.eval()
        return self

    def compute(self, lr: Tensor) -> Tensor:
        """Return the image; see ``SRNetwork.upscale``."""
        batch, colours, height, width = lr.shape
        x = lr if self.foreign.channels == colours else lr.reshape(batch * colours, 1, height, width)
        x = x * (self.foreign.value_range / WHITE)
        sr: Tensor = self.net(x) * (WHITE / self.foreign.value_range)
        return sr.reshape(batch, colours, *sr.shape[-2:])

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; BatchNorm asks for its counter, which is no weight, and finds it where none is."""
        keys = super().load_state_dict(state_dict, strict=False, assign=assign)
        unexpected = [name for name in keys.unexpected_keys if not name.endswith(_COUNTERS)]
        if strict and (keys.missing_keys or unexpected):
            raise RuntimeError(f"missing: {keys.missing_keys}, unexpected: {unexpected}")
        return keys


def _check_layers(network: ForeignNetwork, name: str) -> None:
    """Check that the prunable layers can be those of the network: what they name is there, and each only once.

    Raises:
        UsageError: they cannot.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    taken: set[tuple[str, int, int]] = set()
    for layer in network.prunable_layers:
        for s in set(layer.queries) - set(layer.made):
            raise _no_layer(name, layer, s)
        for s in layer.slices:
            shape = shapes.get(s.tensor, ())
            end = s.start + s.indices_per_channel * layer.full_width
            if s.axis >= min(2, len(shape)) or end > shape[s.axis]:
                raise _no_layer(name, layer, s)
            mine = {(s.tensor, s.axis, index) for index in range(s.start, end)}
            if taken & mine:
                raise _no_layer(name, layer, s)
            taken |= mine
        for s in (layer.made[0], *layer.read):
            module = network.get_submodule(s.module)
            transposed = isinstance(module, nn.ConvTranspose2d)
            axis = int(transposed) if s is layer.made[0] else int(not transposed)
            if not isinstance(module, WEIGHTED) or s.tensor != f"{s.module}.weight" or s.axis != axis:
                raise _no_layer(name, layer, s)


def _no_layer(name: str, layer: PrunableLayer, part: Slice) -> UsageError:
    return UsageError(
        f"{name} has no {layer.full_width} channels of layer {layer.name} in {part.tensor}.",
        "Import the network again.",
    )


def _build(foreign: ForeignSpec) -> nn.Module:
    if foreign.source.startswith(zoo.SOURCE_PREFIX):
        return zoo.build(foreign.target, foreign.settings)
    code = own_code.find_trusted(foreign.source, foreign.code_sha256 or "", foreign.settings)
    return own_code.build(code, foreign.settings)


def prepare(net: nn.Module, kept_buffers: Iterable[str] = ()) -> nn.Module:
    """Make a module traceable, and its state dict that of its trained tensors; return it in evaluation mode.

    Tensors that are plain attributes become buffers, so that tracing and moving to another device see them. Buffers
    other than ``kept_buffers`` leave the state dict. SPAN's convolutions are folded: it does so in every forward pass,
    which cannot be traced.
    """
    net.eval()
    _fold_span(net)
    _fold_norms(net)
    kept = set(kept_buffers)
    for module in net.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and not hasattr(type(module), name):  # a class's default would hide a buffer
                delattr(module, name)
                module.register_buffer(name, value.detach(), persistent=False)
        module._non_persistent_buffers_set = set(module._buffers) - kept
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return net


def _fold_span(net: nn.Module) -> None:
    """Replace each convolution with branches of SPAN by the one that it computes."""
    for name, module in list(net.named_modules()):
        if type(module).__name__ == "Conv3XC" and hasattr(module, "update_params"):
            module.update_params()
            folded = module.eval_conv
            assert isinstance(folded, nn.Conv2d)
            parent, _, leaf = name.rpartition(".")
            replacement = nn.Sequential(folded, nn.LeakyReLU(0.05)) if module.has_relu else folded
            setattr(net.get_submodule(parent), leaf, replacement)


def _fold_norms(net: nn.Module) -> None:
    """Replace weights that are computed from others, as weight normalisation does, by their values."""
    for module in net.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(module, hook.name)
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def trained_buffers(net: nn.Module, fresh: nn.Module) -> tuple[str, ...]:
    """Return the last parts of the names of buffers that differ between a trained network and a fresh one."""
    computed = dict(fresh.named_buffers())

    def differing() -> Iterator[str]:
        for name, value in net.named_buffers():
            leaf = name.rpartition(".")[2]
            other = computed.get(name)
            equal = other is not None and other.shape == value.shape and bool(torch.equal(other, value))
            if not equal and leaf != _COUNTERS:
                yield leaf

    return tuple(sorted(set(differing())))
