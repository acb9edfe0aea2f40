"""Networks whose reach follows from their layers on paper, against what running them shows."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.errors import UsageError
from drc_deploy.models.reach import Reach, measure_reach


class Lambda(nn.Module):
    """Layers a, b around a function, then PixelShuffle(2)."""

    def __init__(self, function: Callable[[Tensor], Tensor] = torch.relu, dilation: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=dilation, dilation=dilation), nn.Conv2d(8, 12, 3, padding=1)
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(self.function(self.first(image / 255))), 2)


def channel_attention(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def weak_channel_attention(x: Tensor) -> Tensor:
    return x * (1 + 1e-5 * x.mean((2, 3), keepdim=True))


def group_norm(x: Tensor) -> Tensor:
    return F.group_norm(x, 2)


def pooled_attention(x: Tensor) -> Tensor:
    """Return x gated by what a stride of 6 has seen, as RLFN and RFDN do."""
    return x * torch.sigmoid(F.interpolate(F.max_pool2d(x[..., ::2, ::2], 7, 3), x.shape[2:], mode="bilinear"))


def windows(x: Tensor, side: int) -> Tensor:
    """Return (windows, side * side, C) of NCHW."""
    n, c, h, w = x.shape
    return x.view(n, c, h // side, side, w // side, side).permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, c)


def attention(x: Tensor, side: int, shift: int) -> Tensor:
    """Return x plus attention in windows of a rolled image, with the usual mask of -100."""
    x, (n, c, h, w) = x.roll((-shift, -shift), (2, 3)), x.shape
    rows, columns = ((torch.arange(size) >= size - shift).float() for size in (h, w))
    region = windows((rows[:, None] + 2 * columns)[None, None].to(x.dtype), side)
    tokens = windows(x, side)
    logits = tokens @ tokens.mT - 100.0 * (region != region.mT)
    mixed = (logits.softmax(-1) @ tokens).view(n, h // side, w // side, side, side, c)
    return (x + mixed.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)).roll((shift, shift), (2, 3))


def two_blocks(side: int) -> Callable[[Tensor], Tensor]:
    return lambda x: attention(attention(x, side, 0), side, side // 2)


def padded(side: int) -> Callable[[Tensor], Tensor]:
    """Reflect to whole windows, attend, crop."""

    def attend(x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        whole = F.pad(x, (0, -width % side, 0, -height % side), mode="reflect")
        return two_blocks(side)(whole)[..., :height, :width]

    return attend


class Stack(nn.Sequential):
    """Plain 3x3 convolutions."""

    def __init__(self, count: int) -> None:
        super().__init__(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(count)))


class Strided(nn.Sequential):
    """3x3 with stride 2, 3x3 at half the size, PixelShuffle(4): outputs of pixels 2i and 2i+1 see 2i-3 to 2i+3."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 48, 3, padding=1), nn.PixelShuffle(4))


@pytest.mark.parametrize("count", [1, 5, 110])  # 110: beyond half of the short strip
def test_stacked_convolutions_see_one_pixel_each(count: int) -> None:
    assert measure_reach(Stack(count).eval(), 1) == Reach(1, 1, count, False)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Lambda(dilation=3), Reach(1, 1, 4, False)),
        (Strided(), Reach(2, 2, 4, False)),
        # The worst pixel is the last of a window: +1 into the next one, its end, the end of the shifted one, +1.
        (Lambda(two_blocks(8)), Reach(8, 8, 8 + 4 + 1, False)),
        (Lambda(two_blocks(6)), Reach(6, 6, 6 + 3 + 1, False)),
        (Lambda(padded(8)), Reach(8, 8, 8 + 4 + 1, False)),
    ],
    ids=["dilated", "strided", "windows of 8", "windows of 6", "windows padded inside"],
)
def test_local_networks_have_the_reach_of_their_layers(network: nn.Module, expected: Reach) -> None:
    assert measure_reach(network.eval(), 2) == expected


def test_reflection_padding_asks_for_a_least_side() -> None:
    network = nn.Sequential(nn.ReflectionPad2d(6), nn.Conv2d(3, 3, 13))
    assert measure_reach(network, 1) == Reach(1, 7, 6, False)


@pytest.mark.parametrize("function", [channel_attention, weak_channel_attention, group_norm])
def test_what_sees_the_whole_image_is_global_and_the_rest_is_local(function: Callable[[Tensor], Tensor]) -> None:
    assert measure_reach(Lambda(function).eval(), 2) == Reach(1, 1, 2, True)


def test_windows_next_to_channel_attention_still_ask_for_aligned_tiles() -> None:
    reach = measure_reach(Lambda(lambda x: weak_channel_attention(two_blocks(8)(x))).eval(), 2)
    assert (reach.multiple_of, reach.minimum, reach.global_operations) == (8, 8, True)
    assert reach.receptive_field >= 8 + 4 + 1


def test_where_something_is_resized_to_the_size_of_the_image_no_tile_is_exact() -> None:
    network = Lambda(pooled_attention).eval()
    reach = measure_reach(network, 2)
    assert (reach.multiple_of, reach.global_operations) == (1, True)
    assert reach.minimum == 13  # a pool of 7 pixels at half the size
    assert reach.receptive_field >= 2
    image = torch.rand(1, 3, 16, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    double = copy.deepcopy(network).double()
    with torch.no_grad():
        whole = double(image)
        for origin in range(1, 65):  # the middle of a tile, far from its ends
            difference = (
                double(image[..., origin : origin + 300])[..., 280:320] - whole[..., 2 * origin :][..., 280:320]
            )
            assert float(difference.abs().max()) > 1e-6


def test_the_network_is_left_as_it_is() -> None:
    class WithPlainTensor(Lambda):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = torch.rand(3, 3, 1, 1)  # no parameter: ``double`` does not see it

        def forward(self, image: Tensor) -> Tensor:
            return super().forward(F.conv2d(image, self.kernel))

    network = WithPlainTensor().train()
    before = copy.deepcopy(network.state_dict())
    assert measure_reach(network, 2) == Reach(1, 1, 2, False)
    assert network.training
    assert network.kernel.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_only_computes_in_float32_is_measured_all_the_same() -> None:
    kernel = torch.rand(8, 8, 3, 3)
    network = Lambda(lambda x: F.conv2d(x, kernel, padding=1))  # fails on float64
    assert measure_reach(network, 2) == Reach(1, 1, 3, False)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: (x, x), "returns a tuple"),
        (lambda x: x[..., :-1], "not 1 times the size"),
        (lambda x: x + torch.zeros(64, 64), "fails on an image of"),
        (lambda x: x / 0, "NaN or infinity"),
    ],
)
def test_networks_that_cannot_be_used_are_refused(function: Callable[[Tensor], Tensor], words: str) -> None:
    class Network(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return function(image)

    with pytest.raises(UsageError, match=words) as refusal:
        measure_reach(Network(), 1)
    assert refusal.value.hint


class Palette(Lambda):
    """Adds a colour that it looks up by a value, which NaN is no index for."""

    def forward(self, image: Tensor) -> Tensor:
        colours = torch.linspace(0, 1, 256, dtype=image.dtype)[image[:, :1].round().long()]
        return super().forward(image + colours)


def test_a_network_that_fails_on_nan_is_measured_without() -> None:
    assert measure_reach(Palette(), 2) == Reach(1, 1, 2, False)
