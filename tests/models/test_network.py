"""What is counted and laid out in a network, however its modules are made and called."""

from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.models.network import ModelSpec, lay_channels_last, uses_of_weights
from tests.models.plain_network import PlainNetwork


class TwoImages(nn.Conv2d):
    """Returns its result twice."""

    def forward(self, image: Tensor) -> Any:
        result = super().forward(image)
        return result, result


class Odd(PlainNetwork):
    """Calls a layer by keyword, and one that returns a tuple."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2)
        self.two = TwoImages(3, 3, 1)

    def upscale(self, lr: Tensor) -> Tensor:
        image, _ = self.two(self.up(input=self.up(input=lr)))
        return image  # type: ignore[no-any-return]


def test_uses_are_counted_however_a_layer_is_called() -> None:
    uses = uses_of_weights(Odd(ModelSpec("plain", 4)), 5, 7)
    assert uses == {
        "up.weight": 5 * 7 + 10 * 14,
        "up.bias": 10 * 14 + 20 * 28,
        "two.weight": 20 * 28,
        "two.bias": 20 * 28,
    }


def test_kernels_are_laid_out_channels_last_next_to_tensors_of_five_dimensions() -> None:
    flat, deep = nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, 3)
    lay_channels_last(nn.Sequential(flat, deep))
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert deep.weight.is_contiguous()
