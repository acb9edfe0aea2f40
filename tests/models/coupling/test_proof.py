"""What the proof lets pass, and what it finds."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.models import proof
from drc_deploy.models.proof import prove
from drc_deploy.slices import PrunableLayer, Slice
from tests.models.coupling.networks import IMAGE, Net, conv


def layer(producer: str, consumer: str, width: int, *more: Slice, start: int = 0) -> PrunableLayer:
    made = (Slice(f"{producer}.weight", 0, start), Slice(f"{producer}.bias", 0, start), *more)
    return PrunableLayer(producer, width, made, (Slice(f"{consumer}.weight", 1),))


def chain(function: Any = lambda n, x: n.c(n.b(n.a(x).relu()).relu())) -> Net:
    return Net(function, a=conv(3, 8), b=conv(8, 8), c=conv(8, 3))


A, B = layer("a", "b", 8), layer("b", "c", 8)


def test_a_chain_passes_and_stays_as_it_is() -> None:
    net = chain()
    before, text = {name: tensor.clone() for name, tensor in net.state_dict().items()}, str(net)
    assert prove(net, [A, B], [IMAGE]) == ([A, B], [])
    assert str(net) == text
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_layers_that_pair_the_wrong_channels_fail_alone_and_the_others_pass() -> None:
    net = chain(lambda n, x: n.c(n.b(n.a(x).relu()).flip(1).relu()))
    kept, (left,) = prove(net, [A, B], [IMAGE])
    assert kept == [A]
    assert left.name == "b"
    assert left.reason.startswith("cutting it changes the image by ")


def test_a_layer_that_forgets_a_reader_fails() -> None:
    net = chain(lambda n, x: n.c(n.b(n.a(x)) + n.a(x)))
    (left,) = prove(net, [A], [IMAGE])[1]
    assert left.reason.startswith("cutting it fails: ")
    assert "\n" not in left.reason


def test_code_with_sizes_of_its_own_fails() -> None:
    net = chain(lambda n, x: n.c(n.b(n.a(x).view(1, 8, 8, 8))))
    kept, (left,) = prove(net, [A, B], [IMAGE])
    assert kept == [B]
    assert left.name == "a"
    assert "shape" in left.reason


def test_halves_that_only_work_when_they_are_equal_fail() -> None:
    def halves(n: Any, x: Tensor) -> Any:
        a, b = torch.cat((n.a(x), n.b(x)), 1).chunk(2, 1)
        return n.c(torch.cat((a.relu(), b.sigmoid()), 1))

    net = Net(halves, a=conv(3, 8), b=conv(3, 8), c=conv(16, 3))
    second = PrunableLayer("b", 8, layer("b", "c", 8).made, (Slice("c.weight", 1, 8),))
    kept, left_out = prove(net, [layer("a", "c", 8), second], [IMAGE])
    assert kept == []
    assert [each.name for each in left_out] == ["a", "b"]


def test_layers_that_pass_alone_but_not_together_lose_the_later_one() -> None:
    def crowded(n: Any, x: Tensor) -> Any:
        x = n.a(x)
        y = n.b(x)
        return n.c(y if x.shape[1] + y.shape[1] > 8 + 4 else y + 1)

    kept, (left,) = prove(chain(crowded), [A, B], [IMAGE])
    assert kept == [A]
    assert left.name == "b"
    assert left.reason.startswith("together with others, cutting it ")


@pytest.mark.parametrize("differentiable", [True, False])
def test_a_mask_that_shows_nothing_proves_nothing(differentiable: bool) -> None:
    net = chain() if differentiable else chain(lambda n, x: n.c(n.b(n.a(x).relu()).relu()).detach())
    net.get_parameter("c.weight").data.zero_()
    kept, left_out = prove(net, [A, B], [IMAGE])
    assert kept == []
    assert {each.reason for each in left_out} == {
        "zeros in place of its channels change nothing, so that a cut cannot be checked"
    }


@pytest.mark.parametrize("wrong", [False, True])
def test_networks_that_compute_in_float32_only_are_checked_too(wrong: bool) -> None:
    bias = torch.rand(8, 3, 1, 1)
    net = chain(lambda n, x: n.c(F.conv2d(x, bias[: n.b.in_channels]) * n.b(n.a(x))))
    only = chain(lambda n, x: n.c(n.b(n.a(F.conv2d(x, torch.eye(3)[:, :, None, None])))))
    kept, _ = prove(net if wrong else only, [A], [IMAGE])
    assert kept == ([] if wrong else [A])


def test_networks_that_write_into_their_input_are_given_copies() -> None:
    image = IMAGE.clone()
    assert prove(chain(lambda n, x: n.c(n.b(n.a(x.mul_(2))))), [A, B], [image])[0] == [A, B]
    assert torch.equal(image, IMAGE)


def test_every_layer_is_cut_to_an_odd_number_of_channels() -> None:
    bench = proof._Bench(nn.Identity(), [IMAGE])
    for width in range(2, 40):
        wide = layer("a", "b", width)
        counts = [len(bench._random_channels(wide, share)) for share in proof._KEPT_SHARES]
        assert all(1 <= count < width for count in counts)
        assert all(count % 2 or count == width - 1 for count in counts)
        assert counts[-1] == 1
