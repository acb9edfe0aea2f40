"""Memory of a network in torch for each input pixel: counted, without computing anything."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from drc_deploy.models.network import SRNetwork

SIDE_PX = 64
"""Of the input that is followed; whatever the side, the count per pixel is the same."""
ALLOWANCE = 1.1
"""Between what is alive and what the process grows by (tests/benchmarks/torch_memory.py)."""


def bytes_per_pixel(network: SRNetwork) -> int:
    """Return the most that is alive at a time while ``network``, on the device "meta", upscales, with an allowance."""
    tile = torch.empty(1, 3, SIDE_PX, SIDE_PX, device="meta").contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), _LiveBytes() as live:
        network.upscale(tile)
    return int(ALLOWANCE * live.peak / SIDE_PX**2)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every tensor from the operation that makes it until nothing refers to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.peak = max(self.peak, sum(self._sizes.values()))
            weakref.finalize(storage, self._sizes.pop, key, None)
