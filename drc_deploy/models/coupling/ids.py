"""Ids of the channels of weights, and which of them go together: a union-find.

Every index along every axis of a trained tensor gets an id. A tensor that is computed from them has, for each id that
an element can depend on by itself, int64 ids of a shape that broadcasts to its own. Along a dimension of extent 1 the
ids do not differ. Id 0 marks elements that no trained tensor makes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Ids = list[Tensor]


@dataclass(frozen=True, slots=True)
class Slot:
    """One index along one axis of a tensor of the state dict."""

    tensor: str
    axis: int
    index: int


@dataclass(frozen=True, slots=True)
class Traced:
    """A tensor of the graph with the ids of its elements."""

    value: Tensor
    ids: Ids = field(default_factory=list)
    loose_weight: str = ""
    """Name in the state dict, if this is moved elements of a tensor that is no weight of a layer of torch."""

    def along(self, axis: int) -> Ids:
        """Return those of the ids that differ along an axis."""
        return [ids for ids in self.ids if ids.shape[axis] > 1]


class Classes:
    """Which ids go together, and which of them cannot be cut, and why.

    Attributes:
        slots: What each id stands for, from id 1 on.
    """

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self._parents = [0]
        self._reasons: dict[int, str] = {}

    def new(self, tensor: str, axis: int, size: int) -> Tensor:
        """Return new ids for the indices along an axis, (size,)."""
        start = len(self._parents)
        self.slots += [Slot(tensor, axis, index) for index in range(size)]
        self._parents += range(start, start + size)
        return torch.arange(start, start + size)

    def root(self, of: int) -> int:
        """Return the id that stands for all that go with this one."""
        parents = self._parents
        while parents[of] != of:
            parents[of] = parents[parents[of]]
            of = parents[of]
        return of

    def reason(self, of: int) -> str:
        """Return why this id cannot be cut; empty if it can."""
        return self._reasons.get(self.root(of), "")

    def unite(self, first: Tensor, second: Tensor, reason: str) -> None:
        """Let ids go together that meet where one tensor is broadcast to the other; where one is 0, pin the other.

        Args:
            first: Ids.
            second: Ids; not changed either.
            reason: Why an id that meets 0 cannot be cut.
        """
        pairs = torch.unique((first << 32) + second)  # one number for a pair: unique rows would be slow
        for a, b in zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True):
            if a and b:
                self._join(self.root(a), self.root(b))
            elif a or b:
                self._reasons.setdefault(self.root(a or b), reason)

    def _join(self, first: int, second: int) -> None:
        if first == second:
            return
        parent, child = min(first, second), max(first, second)
        self._parents[child] = parent
        reason = self._reasons.pop(child, "")
        if reason:
            self._reasons.setdefault(parent, reason)

    def pin(self, ids: Iterable[Tensor], reason: str) -> None:
        """Note that none of these can be cut."""
        for tensor in ids:
            self.unite(tensor, torch.tensor(0), reason)

    def mix(self, ids: Ids, dims: Sequence[int], reason: str) -> Ids:
        """Let ids go together that differ along these dimensions only; return the ids without them.

        Where they do not differ along others, all that there is goes together and cannot be cut.

        Args:
            ids: Of one tensor.
            dims: Dimensions along which an operation mixes elements.
            reason: Why the ids that differ along nothing else cannot be cut.
        """
        left = []
        for tensor in ids:
            mixed = [dim for dim in dims if tensor.shape[dim] > 1]
            narrow = tensor
            for dim in mixed:
                narrow = narrow.narrow(dim, 0, 1)
            if narrow.numel() == 1:
                self.pin([tensor], reason)
                continue
            if mixed:
                self.unite(tensor, narrow, reason)
            left.append(narrow)
        return left

    def compact(self, ids: Iterable[Tensor]) -> Ids:
        """Narrow ids to extent 1 along all dimensions along which they do not differ; a single id is pinned."""
        left = []
        for tensor in ids:
            for dim, size in enumerate(tensor.shape):
                first = tensor.narrow(dim, 0, min(1, size))
                if size > 1 and (tensor.stride(dim) == 0 or bool((tensor == first).all())):
                    tensor = first  # noqa: PLW2901 - narrowed dimension by dimension
            if tensor.numel() > 1:
                left.append(tensor)
            else:
                self.pin([tensor], "one of its channels is used alone")
        return left


def differing(ids: Tensor) -> set[int]:
    """Return the dimensions along which ids differ, counted from the last: -1, -2, ..."""
    return {dim - ids.dim() for dim, size in enumerate(ids.shape) if size > 1}
