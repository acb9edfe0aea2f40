"""Exponential moving average of weights: what is validated and shipped is smoother than the last update."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightAverage:
    """A moving average of parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._decay = decay
        self.average = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the parameters after update number ``step`` (from 1).

        The decay grows from 2/11 to its full value, so that the first weights, which are worth nothing, are forgotten.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self._parameters, 1 - decay)

    def restore(self, average: Sequence[Tensor]) -> None:
        """Take back a saved ``average``."""
        for mine, saved in zip(self.average, average, strict=True):
            mine.copy_(saved)
