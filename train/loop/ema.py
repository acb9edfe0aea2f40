"""Exponential moving average of weights: what is validated and shipped is smoother than the last update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drc_deploy.train.interruption import whole_step


class WeightAverage:
    """A moving average of parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._decay = decay
        self._swapped = False
        self.average = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the parameters after update number ``step`` (from 1).

        The decay grows from 2/11 to its full value, so that the first weights, which are worth nothing, are forgotten.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self._parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in place of the parameters while the block runs."""
        try:
            with whole_step():
                self._swap()
            yield
        finally:
            self.put_back()

    def put_back(self) -> None:
        """Put the parameters back in their place, where a signal kept ``applied`` from doing it."""
        if self._swapped:
            with whole_step():
                self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        self._swapped = not self._swapped
        for parameter, average in zip(self._parameters, self.average, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    def restore(self, average: Sequence[Tensor]) -> None:
        """Take back a saved ``average``."""
        for mine, saved in zip(self.average, average, strict=True):
            mine.copy_(saved)
