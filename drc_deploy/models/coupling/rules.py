"""What operations do to the ids of their operands: those that move elements, compute element by element, or reduce."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from drc_deploy.models.coupling.ids import Classes, Ids, Traced, differing

ALONE = "its channels are joined with what no layer makes, such as the image"
aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the graph, with its operands and results."""

    op: OpOverload
    args: tuple[Any, ...]
    """Tensors among them are ``Traced``."""
    kwargs: dict[str, Any]
    outputs: tuple[Tensor, ...]

    def operand(self, index: int) -> Traced:
        """Return the operand at this place."""
        operand = self.args[index]
        assert isinstance(operand, Traced)
        return operand

    def argument(self, index: int, default: Any = None) -> Any:
        """Return the plain argument at this place, or the default where the call has none."""
        return self.args[index] if index < len(self.args) else default

    @property
    def operands(self) -> list[Traced]:
        """All tensors among the arguments."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Traced)]

    @property
    def mixes(self) -> str:
        """Why channels that this operation mixes cannot be cut."""
        return f"the operation {self.op.overloadpacket.__name__} mixes its channels"

    def apply(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Return what the operation does with ids instead of the values of its first operand."""
        plain = pytree.tree_map_only(Traced, lambda operand: operand.value, (self.args[1:], self.kwargs))
        return outputs_of(self.op(ids.expand(self.operand(0).value.shape).contiguous(), *plain[0], **plain[1]))


Rule = Callable[[Classes, Call], list[Ids]]
"""Returns the ids of each output; outputs at the end that have none may be missing."""


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    """Return the tensors that an operation returned."""
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def move(classes: Classes, call: Call) -> list[Ids]:
    """Move the ids as the elements: views, permutations, slices, repetitions."""
    moved = [call.apply(ids) for ids in call.operand(0).ids]
    if any(ids.shape != value.shape for each in moved for ids, value in zip(each, call.outputs, strict=True)):
        return unknown(classes, call)  # elements of another type
    return [list(ids) for ids in zip(*moved, strict=True)]


def move_floats(_classes: Classes, call: Call) -> list[Ids]:
    """Move the ids by an operation that takes floating-point numbers only, which are exact up to 2^53."""
    operand = call.operand(0)
    return [[call.apply(ids.expand(operand.value.shape).double())[0].long() for ids in operand.ids]]


def pad(_classes: Classes, call: Call) -> list[Ids]:
    """Pad with elements of nobody, where channels differ; rows of a border belong to the channel."""
    pads: Sequence[int] = call.args[1]

    def padded(ids: Tensor) -> Tensor:
        own = [amount if ids.shape[ids.dim() - 1 - i // 2] > 1 else 0 for i, amount in enumerate(pads)]
        return torch.nn.functional.pad(ids, own)

    return [[padded(ids) for ids in call.operand(0).ids]]


def copy(_classes: Classes, call: Call) -> list[Ids]:
    """Return the ids of the source, which is broadcast to the target."""
    rank = call.outputs[0].dim()
    return [[ids.reshape([1] * (rank - ids.dim()) + list(ids.shape)) for ids in call.operand(1).ids]]


def concatenate(classes: Classes, call: Call) -> list[Ids]:
    """Lay the ids behind each other."""
    parts = [part for part in call.args[0] if part.value.numel()]
    return [join(classes, parts, call.argument(1, 0) % call.outputs[0].dim())]


def stack(classes: Classes, call: Call) -> list[Ids]:
    """Concatenate along a new dimension."""
    dim = call.argument(1, 0) % call.outputs[0].dim()
    parts = [Traced(part.value.unsqueeze(dim), [ids.unsqueeze(dim) for ids in part.ids]) for part in call.args[0]]
    return [join(classes, parts, dim)]


def join(classes: Classes, parts: Sequence[Traced], dim: int) -> Ids:
    """Return the ids of parts that lie behind each other along a dimension."""
    if all(len(part.ids) <= 1 for part in parts):
        return [_laid_out(parts, [part.ids for part in parts], dim)]
    others = {dim - parts[0].value.dim()}
    keys = dict.fromkeys(frozenset(differing(ids) - others) for part in parts for ids in part.ids)
    joined = []
    for key in keys:
        alike = [[ids for ids in part.ids if differing(ids) - others == key] for part in parts]
        classes.pin((ids for each in alike for ids in each[1:]), "its channels are joined in a way too intricate")
        joined.append(_laid_out(parts, alike, dim))
    return joined


def _laid_out(parts: Sequence[Traced], ids: Sequence[Ids], dim: int) -> Tensor:
    """Return the first ids of each part behind each other, zeros where a part has none."""
    rank = parts[0].value.dim()
    chosen = [each[0] if each else torch.zeros([1] * rank, dtype=torch.int64) for each in ids]
    sizes = [max(each.shape[d] for each in chosen) for d in range(rank)]
    lengths = [part.value.shape[dim] for part in parts]
    expanded = [
        each.expand([*sizes[:dim], length, *sizes[dim + 1 :]]) for each, length in zip(chosen, lengths, strict=True)
    ]
    return torch.cat(expanded, dim)


def scatter_slice(classes: Classes, call: Call) -> list[Ids]:
    """Replace a slice: what lies before it, the new part, and what lies behind it."""
    base, part = call.operand(0), call.operand(1)
    dim = call.argument(2, 0) % base.value.dim()
    size = base.value.shape[dim]
    start, _, step = slice(*(call.argument(i) for i in (3, 4, 5))).indices(size)
    if step != 1:
        return unknown(classes, call)
    around = [_sliced(base, dim, 0, start), part, _sliced(base, dim, start + part.value.shape[dim], size)]
    return [join(classes, [piece for piece in around if piece.value.numel()], dim)]


def _sliced(operand: Traced, dim: int, start: int, end: int) -> Traced:
    ids = [t if t.shape[dim] == 1 else t.narrow(dim, start, end - start) for t in operand.ids]
    return Traced(operand.value.narrow(dim, start, end - start), ids)


def elementwise(classes: Classes, call: Call) -> list[Ids]:
    """Let ids go together that meet in one element."""
    return [meet(classes, call.operands)]


def meet(classes: Classes, operands: Sequence[Traced]) -> Ids:
    """Return the ids of what is computed element by element from operands that are broadcast."""
    found: Ids = []
    rank = max((operand.value.dim() for operand in operands), default=0)
    for operand in operands:
        fresh = []
        for ids in operand.ids:
            aligned = ids.reshape([1] * (rank - ids.dim()) + list(ids.shape))
            partners = [other for other in found if differing(other) & differing(aligned)]
            for other in partners:
                classes.unite(other, aligned, ALONE)
            fresh += [] if partners else [aligned]
        found += fresh
    return [ids for each in found for ids in classes.mix([each], list(_anonymous(each, operands)), ALONE)]


def _anonymous(ids: Tensor, operands: Sequence[Traced]) -> Iterator[int]:
    """Yield dimensions of the ids along which some operand has elements that nobody makes."""
    for dim in differing(ids):
        for operand in operands:
            extent = operand.value.shape[dim] if operand.value.dim() >= -dim else 1
            if extent > 1 and not any(-dim <= own.dim() and own.shape[dim] > 1 for own in operand.ids):
                yield dim
                break


def reduce(classes: Classes, call: Call) -> list[Ids]:
    """Take a mean, a sum or an extreme along dimensions."""
    operand = call.operand(0)
    rank = operand.value.dim()
    given = call.argument(1)
    dims = [given] if isinstance(given, int) else list(given or range(rank))
    dims = sorted((dim % rank for dim in dims), reverse=True)
    left = classes.mix(operand.ids, dims, call.mixes)
    if call.outputs[0].dim() < rank:
        for dim in dims:
            left = [ids.squeeze(dim) for ids in left]
    return [left] * len(call.outputs)


def softmax(classes: Classes, call: Call) -> list[Ids]:
    """Mix along one dimension, and keep it."""
    return [mix_in_place(classes, call, [call.args[1]])]


def mix_in_place(classes: Classes, call: Call, dims: Sequence[int]) -> Ids:
    """Mix along dimensions that stay; what cannot be cut keeps its ids, so that the reason goes along."""
    ids = call.operand(0).ids
    return classes.mix(ids, dims, call.mixes) or ids


def resample(classes: Classes, call: Call) -> list[Ids]:
    """Mix along height and width: pooling and interpolation; other operands, such as a grid, cannot be cut."""
    for other in call.operands[1:]:
        classes.pin(other.ids, call.mixes)
    ids = classes.mix(call.operand(0).ids, range(2, call.outputs[0].dim()), call.mixes)
    return [ids] * len(call.outputs)


def create(_classes: Classes, _call: Call) -> list[Ids]:
    """Read nothing but the type or the device of a tensor."""
    return []


def unknown(classes: Classes, call: Call) -> list[Ids]:
    """Pin all that an operation without a rule reads."""
    name = getattr(getattr(call.op, "overloadpacket", call.op), "__name__", str(call.op))
    for operand in call.operands:
        classes.pin(operand.ids, f"the operation {name} is not known to keep channels apart")
    return []
