"""Other values in place of live weights for a while, such as their average, or what a file will hold of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from drc_deploy.interruption import whole_step


class StandIn:
    """Puts values in place of tensors while a block runs, and back after it, whatever signal comes."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []
        """Each tensor that holds another value now, and its own."""

    @contextmanager
    def applied(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
        """Let ``tensors`` hold ``values`` while the block runs."""
        try:
            with whole_step(), torch.no_grad():
                self._kept = [(tensor, tensor.clone()) for tensor in tensors]
                torch._foreach_copy_(list(tensors), list(values))
            yield
        finally:
            self.put_back()

    @torch.no_grad()
    def put_back(self) -> None:
        """Put the tensors' own values back, where a signal kept ``applied`` from doing it."""
        with whole_step():
            for tensor, own in self._kept:
                tensor.copy_(own)
            self._kept = []
