"""Shows that layers can be cut: each cut network must compute what masking computes, on every example."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from drc_deploy.models.cutting import mask_channels, narrow, select_channels
from drc_deploy.slices import LeftOut, PrunableLayer, Slice

_KEPT_SHARES = (0.6, 0.3, 0.0)
"""Shares of channels that are kept. The next is tried where a mask does not show: some may be zero on the examples."""
_NO_EFFECT = "zeros in place of its channels change nothing, so that a cut cannot be checked"
_TOLERANCE, _PRECISE = 1e-5, 1e-10
# Least change of the output by which a mask shows, as a share of the greatest value: far above rounding.
_LEAST_EFFECT = {torch.float64: 1e-9, torch.float32: 1e-4}


def prove(
    net: nn.Module, layers: Sequence[PrunableLayer], examples: Sequence[Tensor]
) -> tuple[list[PrunableLayer], list[LeftOut]]:
    """Cut layers to random channels; return those that passed, and why others did not.

    Several are cut together first: all, and parts of them in which no two layers always come together. In float64
    that shows each of them: an error of 1e-10 of the output fails. If one fails, or the network computes in float32
    only, each layer is cut alone, and then all that passed together.

    Args:
        net: In evaluation mode, on the CPU; maps (N, C, H, W) to an image or to several. Of several, the last counts.
            It is not changed.
        layers: As they lie in the network, each at least 2 wide.
        examples: Images that it takes, as small as they may be.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the network's own; a user can do nothing about them
        bench = _Bench(net, examples)
        effective = bench.effective(layers)
        left_out = [LeftOut(layer.name, _NO_EFFECT) for layer in layers if layer not in effective]
        if bench.precise and not any(bench.fault(several) for several in _rounds(effective)):
            return effective, left_out
        alone = [(layer, bench.fault([layer])) for layer in effective]
        left_out += [LeftOut(layer.name, fault) for layer, fault in alone if fault]
        together, more = _provable_together(bench, [layer for layer, fault in alone if not fault])
    return together, left_out + more


def _rounds(layers: list[PrunableLayer]) -> Iterator[list[PrunableLayer]]:
    """Yield selections of layers that separate every two of them, then all."""
    for bit in range(len(layers).bit_length()):
        yield [layer for number, layer in enumerate(layers, 1) if number >> bit & 1]
    if layers:
        yield layers


def _provable_together(bench: "_Bench", layers: list[PrunableLayer]) -> tuple[list[PrunableLayer], list[LeftOut]]:
    """Return the layers that can be cut at the same time: all, or those that pass when added one by one."""
    if not layers or not bench.fault(layers):
        return layers, []
    kept: list[PrunableLayer] = []
    left_out = []
    for layer in layers:
        fault = bench.fault([*kept, layer])
        if fault:
            left_out.append(LeftOut(layer.name, f"together with others, {fault}"))
        else:
            kept.append(layer)
    return kept, left_out


class _Bench:
    """A network in the precision in which it is compared, with what it computes uncut."""

    def __init__(self, net: nn.Module, examples: Sequence[Tensor]) -> None:
        self._generator = torch.Generator().manual_seed(0)
        try:
            self._prepare(copy.deepcopy(net).double(), examples, torch.float64)
        except Exception:  # foreign networks make float32 tensors of their own, and fail in any way
            self._prepare(copy.deepcopy(net), examples, torch.float32)

    def _prepare(self, net: nn.Module, examples: Sequence[Tensor], dtype: torch.dtype) -> None:
        self._net, self._dtype, self._state = net, dtype, net.state_dict()
        self._examples = [example.to(dtype) for example in examples]
        self._full = [self._run(example, {}) for example in self._examples]

    def _run(self, example: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Return the image, where some tensors of the network are replaced."""
        output = functional_call(self._net, tensors, (example.clone(),))  # networks may write into their input
        image: Tensor = output if isinstance(output, Tensor) else output[-1]
        return image

    @property
    def precise(self) -> bool:
        """Whether rounding is so small that an error of any layer shows."""
        return self._dtype == torch.float64

    def effective(self, layers: Sequence[PrunableLayer]) -> list[PrunableLayer]:
        """Return the layers that the output depends on, to first order; of others nothing could be shown."""
        names = list(dict.fromkeys(s.tensor for layer in layers for s in layer.read))
        weights = {name: self._state[name].clone().requires_grad_() for name in names}
        try:
            with torch.enable_grad():
                outputs = [self._run(example, weights) for example in self._examples]
                found = torch.autograd.grad(self._mixed(outputs), [*weights.values()])
        except Exception:  # some networks cannot be differentiated; cutting them shows what they depend on
            return list(layers)
        changes = {name: self._state[name] * gradient for name, gradient in zip(names, found, strict=True)}

        def depends(s: Slice, width: int) -> bool:
            return bool(changes[s.tensor].narrow(s.axis, s.start, s.group * width).any())

        return [layer for layer in layers if any(depends(s, layer.full_width) for s in layer.read)]

    def _mixed(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return a random sum of all values."""
        values = torch.cat([output.flatten() for output in outputs])
        return values @ torch.rand(values.shape, generator=self._generator, dtype=values.dtype)

    def fault(self, layers: Sequence[PrunableLayer]) -> str:
        """Return what is wrong with cutting these layers together; empty if nothing is."""
        fault = _NO_EFFECT
        for share in _KEPT_SHARES:
            if fault == _NO_EFFECT:
                fault = self._fault_of_cut(layers, [self._random_channels(layer, share) for layer in layers])
        return fault

    def _fault_of_cut(self, layers: Sequence[PrunableLayer], kept: Sequence[Sequence[int]]) -> str:
        masks = mask_channels(self._state, layers, kept)
        try:
            for example, full in zip(self._examples, self._full, strict=True):
                masked = self._run(example, masks)
                with self._cut(layers, kept):
                    cut = self._run(example, {})
                fault = self._difference(cut, masked, full)
                if fault:
                    return fault
        except Exception as error:  # what a module does with fewer channels is anyone's guess
            return f"cutting it fails: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        return ""

    def _random_channels(self, layer: PrunableLayer, share: float) -> list[int]:
        """Return about that share of channels, ascending; an odd number, and another for layers of the same width."""
        varied = share * (0.75 + 0.5 * float(torch.rand((), generator=self._generator)))
        count = max(1, min(layer.full_width - 1, int(varied * layer.full_width) | 1))
        return sorted(torch.randperm(layer.full_width, generator=self._generator)[:count].tolist())

    @contextmanager
    def _cut(self, layers: Sequence[PrunableLayer], kept: Sequence[Sequence[int]]) -> Iterator[None]:
        """Cut the network for a while: copies of it would take longer than all the rest."""
        names = dict.fromkeys(s.tensor for layer in layers for s in layer.slices)
        owners = [self._net.get_submodule(name.rpartition(".")[0]) for name in names]
        before = [(owner, vars(owner).copy(), owner._parameters.copy(), owner._buffers.copy()) for owner in owners]
        try:
            narrow(self._net, layers, [len(channels) for channels in kept])
            selected = select_channels({name: self._state[name] for name in names}, layers, kept)
            self._net.load_state_dict(selected, strict=False)
            yield
        finally:
            for owner, attributes, parameters, buffers in reversed(before):
                vars(owner).update(attributes)
                owner._parameters.update(parameters)
                owner._buffers.update(buffers)

    def _difference(self, cut: Tensor, masked: Tensor, full: Tensor) -> str:
        if cut.shape != masked.shape:
            return "cutting it changes the size of the image"
        scale = max(float(image.abs().max()) for image in (full, masked))  # networks may run wild behind a mask
        effect = float((masked - full).abs().max())
        if not effect > _LEAST_EFFECT[self._dtype] * scale:
            return _NO_EFFECT
        error = float((cut - masked).abs().max())
        if not error <= (min(_PRECISE * scale, _TOLERANCE * effect) if self.precise else _TOLERANCE * scale):
            return f"cutting it changes the image by {error / scale:.1g} of its greatest value"
        return ""
