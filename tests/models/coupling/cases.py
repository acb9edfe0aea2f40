"""Networks small enough to know their layers by looking."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.models.coupling.networks import Net, conv

ALONE = "its channels are joined with what no layer makes, such as the image"


@dataclass(frozen=True)
class Case:
    net: Net
    found: dict[str, str]
    """Layers in the notation of ``as_text``."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Reasons by name."""


def dense(n: Any, x: Any) -> Any:
    x = n.head(x)
    a = F.leaky_relu(n.a(x), 0.2)
    b = F.leaky_relu(n.b(torch.cat((x, a), 1)), 0.2)
    return n.tail(torch.cat((x, a, b), 1))


def unet(n: Any, x: Any) -> Any:
    skip = n.skip(x)
    return n.last(torch.cat((F.pixel_shuffle(n.up(F.avg_pool2d(skip, 2)), 2), skip), 1))


def chunked_gate(n: Any, x: Any) -> Any:
    a, b = n.a(x).chunk(2, 1)
    return n.c(a * b.sigmoid())


def distilled(n: Any, x: Any) -> Any:
    kept, passed = torch.split(n.a(x), [6, 10], 1)
    return n.c(torch.cat((kept, n.b(passed)), 1))


def residual(n: Any, x: Any) -> Any:
    x = n.head(x)
    return n.tail(x + n.b(n.a(x).relu()))


def channel_attention(n: Any, x: Any) -> Any:
    x = n.head(x)
    return n.tail(x * n.b(n.a(x.mean((2, 3), keepdim=True)).relu()).sigmoid())


def norms_over_channels(n: Any, x: Any) -> Any:
    x = n.norm(n.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    x = n.c(n.groups(n.b(x)))
    return n.d(x - x.mean(1, keepdim=True))


def perceptron(n: Any, x: Any) -> Any:
    return n.b(F.gelu(n.a(x.permute(0, 2, 3, 1).flatten(1, 2)))).mT.unflatten(2, (8, 8))


def shuffled(n: Any, x: Any) -> Any:
    return n.b(n.a(x).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2))


def meeting_the_image(n: Any, x: Any) -> Any:
    return n.b(n.a(x) + x.repeat(1, 2, 1, 1))


def written_in_parts(n: Any, x: Any) -> Any:
    x = n.a(x)
    x[:, :4] = n.part(x[:, :4])
    return n.b(x)


def scaled() -> Net:
    net = Net(lambda n, x: n.b(n.a(x) * n.scale), a=conv(3, 8), b=conv(8, 3))
    net.register_parameter("scale", nn.Parameter(torch.rand(1, 8, 1, 1)))
    return net


def loose() -> Net:
    net = Net(lambda n, x: F.conv2d(n.a(x), n.kernel), a=conv(3, 8))
    net.register_parameter("kernel", nn.Parameter(torch.rand(3, 8, 1, 1)))
    return net


def two_names() -> Net:
    net = Net(lambda n, x: n.b(n.a(x)), a=conv(3, 8), b=conv(8, 3))
    net.add_module("again", net.get_submodule("a"))
    return net


def mixes(operation: str) -> str:
    return f"the operation {operation} mixes its channels"


def norms() -> Net:
    return Net(
        lambda n, x: n.b(n.i(n.m(n.norm(n.d(n.a(x)))))),
        a=conv(3, 8),
        d=conv(8, 8, groups=8),
        norm=nn.BatchNorm2d(8),
        m=conv(8, 16, groups=8),
        i=nn.GroupNorm(16, 16),
        b=conv(16, 3),
    )


_STATISTICS = "norm[0] norm.bias[0] norm.running_mean[0] norm.running_var[0]"
_MULTIPLIED = "m[0]x2 m.bias[0]x2 i[0]x2 i.bias[0]x2"

CASES = {
    "a chain of convolutions takes its activations along": Case(
        Net(
            lambda n, x: n.c(n.q(n.b(n.p(n.a(x))))),
            a=conv(3, 8),
            p=nn.PReLU(8),
            b=conv(8, 6),
            q=nn.PReLU(),
            c=conv(6, 3),
        ),
        {"a": "8: a[0] a.bias[0] p[0] > b[1]", "b": "6: b[0] b.bias[0] > c[1]"},
    ),
    "a channel of a dense block is read at several places": Case(
        Net(dense, head=conv(3, 8), a=conv(8, 5), b=conv(13, 6), tail=conv(19, 3)),
        {
            "head": "8: head[0] head.bias[0] > a[1] b[1] tail[1]",
            "a": "5: a[0] a.bias[0] > b[1]+8 tail[1]+8",
            "b": "6: b[0] b.bias[0] > tail[1]+13",
        },
    ),
    "PixelShuffle groups the channels before it": Case(
        Net(lambda n, x: n.b(n.p(F.pixel_shuffle(n.a(x), 2))), a=conv(3, 20), p=nn.PReLU(5), b=conv(5, 3)),
        {"a": "5: a[0]x4 a.bias[0]x4 p[0] > b[1]"},
    ),
    "pixels that become channels group those behind them": Case(
        Net(lambda n, x: n.b(F.pixel_unshuffle(n.a(x), 2)), a=conv(3, 5), b=conv(20, 3)),
        {"a": "5: a[0] a.bias[0] > b[1]x4"},
    ),
    "a branch after PixelShuffle is concatenated with another": Case(
        Net(unet, skip=conv(3, 6), up=conv(6, 20), last=conv(11, 3)),
        {"skip": "6: skip[0] skip.bias[0] > up[1] last[1]+5", "up": "5: up[0]x4 up.bias[0]x4 > last[1]"},
    ),
    "depthwise convolutions and norms of single channels are factors": Case(
        norms(), {"a": f"8: a[0] a.bias[0] d[0] d.bias[0] {_STATISTICS} {_MULTIPLIED} > b[1]x2"}
    ),
    "a gate has two producers": Case(
        Net(lambda n, x: n.c(n.a(x) * n.b(x).sigmoid()), a=conv(3, 8), b=conv(3, 8), c=conv(8, 3)),
        {"a": "8: a[0] a.bias[0] b[0] b.bias[0] > c[1]"},
    ),
    "a gate out of one convolution is cut at two places": Case(
        Net(chunked_gate, a=conv(3, 16), c=conv(8, 3)), {"a": "8: a[0] a[0]+8 a.bias[0] a.bias[0]+8 > c[1]"}
    ),
    "parts of a convolution that part ways are layers of their own": Case(
        Net(distilled, a=conv(3, 16), b=conv(10, 5), c=conv(11, 3)),
        {
            "a[0:]": "6: a[0] a.bias[0] > c[1]",
            "a[6:]": "10: a[0]+6 a.bias[0]+6 > b[1]",
            "b": "5: b[0] b.bias[0] > c[1]+6",
        },
    ),
    "channels of a residual trunk go with all that adds to them": Case(
        Net(residual, head=conv(3, 8), a=conv(8, 6), b=conv(6, 8), tail=conv(8, 3)),
        {"head": "trunk 8: head[0] head.bias[0] b[0] b.bias[0] > a[1] tail[1]", "a": "6: a[0] a.bias[0] > b[1]"},
    ),
    "channel attention has a hidden layer": Case(
        Net(channel_attention, head=conv(3, 8), a=nn.Conv2d(8, 4, 1), b=nn.Conv2d(4, 8, 1), tail=conv(8, 3)),
        {"head": "trunk 8: head[0] head.bias[0] b[0] b.bias[0] > a[1] tail[1]", "a": "4: a[0] a.bias[0] > b[1]"},
    ),
    "norms over channels keep them": Case(
        Net(
            norms_over_channels,
            a=conv(3, 8),
            norm=nn.LayerNorm(8),
            b=conv(8, 8),
            groups=nn.GroupNorm(2, 8),
            c=conv(8, 8),
            d=conv(8, 3),
        ),
        {},
        {"a": mixes("native_layer_norm"), "b": mixes("group_norm"), "c": mixes("mean")},
    ),
    "a perceptron over pixels is cut too": Case(
        Net(perceptron, a=nn.Linear(3, 8), b=nn.Linear(8, 3, bias=False)), {"a": "8: a[0] a.bias[0] > b[1]"}
    ),
    "transposed convolutions have their axes the other way round": Case(
        Net(lambda n, x: n.b(n.a(n.c(x))), c=conv(3, 5), a=nn.ConvTranspose2d(5, 8, 2, 2), b=conv(8, 3)),
        {"c": "5: c[0] c.bias[0] > a[0]", "a": "8: a[1] a.bias[0] > b[1]"},
    ),
    "scales that are bare parameters go along": Case(scaled(), {"a": "8: a[0] a.bias[0] scale[1] > b[1]"}),
    "shuffled channels come in no regular order": Case(
        Net(shuffled, a=conv(3, 8), b=conv(8, 3)), {}, {"a": "its channels come in an order that is no regular one"}
    ),
    "a weight without a layer of torch keeps the channels that it reads": Case(
        loose(), {}, {"a": "kernel reads its channels, and belongs to no Conv2d, ConvTranspose2d or Linear"}
    ),
    "channels that meet the image stay": Case(
        Net(meeting_the_image, a=conv(3, 6), b=conv(6, 3)),
        {},
        {"a": ALONE},
    ),
    "channels that meet a constant stay": Case(
        Net(lambda n, x: n.b(n.a(x) * torch.arange(8.0).view(1, 8, 1, 1)), a=conv(3, 8), b=conv(8, 3)),
        {},
        {"a": ALONE},
    ),
    "a grouped convolution keeps what it reads and makes": Case(
        Net(lambda n, x: n.c(n.b(n.a(x))), a=conv(3, 8), b=conv(8, 8, groups=2), c=conv(8, 3)),
        {},
        {"a": "a grouped convolution mixes its channels"},
    ),
    "a channel that is used alone is none of its layer": Case(
        Net(lambda n, x: n.b(n.a(x) * n.a(x)[:, :1].sigmoid()), a=conv(3, 8), b=conv(8, 3)),
        {"a": "7: a[0]+1 a.bias[0]+1 > b[1]+1"},
        {"a": "one of its channels is used alone"},
    ),
    "operations that nobody described keep what they read": Case(
        Net(lambda n, x: n.b(n.a(x).sort(1).values), a=conv(3, 8), b=conv(8, 3)),
        {},
        {"a": "the operation sort is not known to keep channels apart"},
    ),
    "a block that is used twice is one layer": Case(
        Net(lambda n, x: n.b(n.a(n.b(n.a(x).relu())).relu()), a=conv(3, 8), b=conv(8, 3)),
        {"a": "8: a[0] a.bias[0] > b[1]"},
        {"b": ALONE},
    ),
    "the colours are no layer": Case(
        Net(lambda n, x: n.b(n.shift(x)), shift=nn.Conv2d(3, 3, 1), b=conv(3, 3)),
        {},
        {"shift": "it has no more channels than the image"},
    ),
    "writing into a part of a tensor keeps channels apart": Case(
        Net(written_in_parts, a=conv(3, 9), part=conv(4, 4), b=conv(9, 3)),
        {
            "a[0:]": "4: a[0] a.bias[0] > part[1]",
            "a[4:]": "5: a[0]+4 a.bias[0]+4 > b[1]+4",
            "part": "4: part[0] part.bias[0] > b[1]",
        },
    ),
    "interpolation and pooling keep channels apart": Case(
        Net(
            lambda n, x: n.b(F.interpolate(F.max_pool2d(n.a(x), 3, 2), x.shape[2:], mode="bilinear")),
            a=conv(3, 8),
            b=conv(8, 3),
        ),
        {"a": "8: a[0] a.bias[0] > b[1]"},
    ),
    "borders belong to their channel": Case(
        Net(lambda n, x: n.b(F.pad(F.pad(n.a(x), (1, 1, 1, 1), "reflect"), (2, 2, 0, 0))), a=conv(3, 8), b=conv(8, 3)),
        {"a": "8: a[0] a.bias[0] > b[1]"},
    ),
}
