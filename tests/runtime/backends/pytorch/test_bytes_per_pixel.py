"""What is alive at a time is counted as a network of known tensors has it."""

import pytest

pytest.importorskip("torch")

import torch

from drc_deploy.models.network import ModelSpec
from drc_deploy.runtime.backends.pytorch.loaded_network import ALLOWANCE, bytes_per_pixel
from tests.models.plain_network import PlainNetwork


class Chain(PlainNetwork):
    """Three tensors of ``widths`` channels, of which two are alive at a time, the first one never again."""

    channels = (5, 20, 7)

    def upscale(self, lr: torch.Tensor) -> torch.Tensor:
        x = lr
        for count in self.channels:
            x = x.new_empty(1, count, *lr.shape[2:])
        return x.view_as(x)  # no memory of its own


def test_the_peak_is_that_of_what_is_alive_together() -> None:
    with torch.device("meta"):
        network = Chain(ModelSpec("chain", 4))
    assert bytes_per_pixel(network) == int(ALLOWANCE * 4 * (20 + 7))
