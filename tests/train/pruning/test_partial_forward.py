"""Parts of forward passes against whole ones, in a network that writes into what its modules take and give."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.train.pruning.partial_forward import Replay, run_up_to
from tests.models.coupling.networks import IMAGE, Net


class Counting(nn.Conv2d):
    """A convolution from 3 to 3 channels that counts how often it computes."""

    def __init__(self) -> None:
        super().__init__(3, 3, 3, padding=1)
        self.computed = 0

    def forward(self, x: Tensor) -> Tensor:
        self.computed += 1
        return super().forward(x)


class Overwriting(nn.Module):
    """A convolution, which reads what an activation has left in the place of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Counting()

    def forward(self, x: Tensor) -> Tensor:
        F.relu_(x)
        result: Tensor = self.inner(x)
        return result


def overwrites(n: Any, x: Tensor) -> Tensor:
    first = n.first(x.mul_(2))
    skip = first * 1
    n.act(skip)  # the result is where the input was
    x = n.block(n.act(first))
    x += skip
    x = n.shared(x).mul_(0.5)
    x = F.leaky_relu_(n.overwriting(x), 0.2) + x
    x = F.relu_(n.shared(x))
    return n.last(n.shared(x) + skip)  # type: ignore[no-any-return]


def network() -> Net:
    return Net(
        overwrites,
        first=Counting(),
        act=nn.LeakyReLU(0.1, inplace=True),
        block=nn.Sequential(Counting(), nn.ReLU(inplace=True), Counting()),
        overwriting=Overwriting(),
        shared=Counting(),
        last=Counting(),
    )


CALLED = ("first", "block.0", "block.2", "shared", "overwriting.inner", "last")
"""Convolutions in the order of their first calls."""


@pytest.mark.parametrize("module", CALLED)
def test_a_module_is_seen_as_it_runs(module: str) -> None:
    net = network()
    seen = run_up_to(net, module, IMAGE.clone())
    convolution = net.get_submodule(module)
    with torch.no_grad():
        assert torch.equal(convolution(seen.input), seen.output)
    assert not any(hooks for m in net.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks))


@pytest.mark.parametrize("module", CALLED)
def test_a_resumed_pass_is_a_whole_one(module: str) -> None:
    net = network()
    replay = Replay(net, module, IMAGE)
    convolution = net.get_submodule(module)
    assert isinstance(convolution, Counting)
    for _ in range(3):
        with torch.no_grad():
            assert torch.equal(replay.run(), net(IMAGE.clone()))
            convolution.weight.mul_(1.5)


@pytest.mark.parametrize("module", CALLED)
def test_gradients_of_a_resumed_pass_are_those_of_a_whole_one(module: str) -> None:
    net = network()
    weight = net.get_parameter(f"{module}.weight")
    replay = Replay(net, module, IMAGE)
    images: list[Tensor] = [replay.run(), net(IMAGE.clone())]
    resumed, whole = (torch.autograd.grad(image.square().sum(), weight)[0] for image in images)
    torch.testing.assert_close(resumed, whole)


def test_what_comes_before_is_not_computed_again() -> None:
    net = network()
    replay = Replay(net, "overwriting.inner", IMAGE)
    counting = {name: module for name, module in net.named_modules() if isinstance(module, Counting)}
    before = {name: module.computed for name, module in counting.items()}
    replay.run()
    again = {name: module.computed - before[name] for name, module in counting.items()}
    # The shared one was called once before and twice behind.
    assert again == {"first": 0, "block.0": 0, "block.2": 0, "shared": 2, "overwriting.inner": 1, "last": 1}
    assert all("forward" not in vars(module) for module in net.modules())


def pre_activation(n: Any, x: Tensor) -> Tensor:
    x = n.first(x)
    for body in (n.body, n.dropped):
        x = x + body(x)  # what an activation in place has left of the input is added too
    flat = n.flat(x)
    flat -= flat.mean()
    return n.last(x)  # type: ignore[no-any-return]


def called_directly(n: Any, x: Tensor) -> Tensor:
    x = n.first.forward(x).relu()
    x = n.first(x).relu()
    return n.last(n.body(n.first(x)))  # type: ignore[no-any-return]


def body(first: nn.Module) -> nn.Sequential:
    return nn.Sequential(first, nn.ReLU(inplace=True), Counting(), nn.ReLU(inplace=True), Counting())


@pytest.mark.parametrize("module", ["first", "body.2", "body.4", "dropped.2", "dropped.4", "last"])
@pytest.mark.parametrize("function", [pre_activation, called_directly])
@pytest.mark.parametrize("hooked", [False, True])
def test_views_direct_calls_and_hooks_are_as_in_a_whole_pass(function: Any, module: str, hooked: bool) -> None:
    net = Net(
        function,
        first=Counting(),
        body=body(nn.Identity()),
        dropped=body(nn.Dropout2d()),
        flat=nn.Flatten(),
        last=Counting(),
    )
    if hooked:
        net.get_submodule("first").register_forward_hook(lambda _module, _inputs, output: output * 0.5)
    replay = Replay(net, module, IMAGE)
    with torch.no_grad():
        net.get_parameter(f"{module}.weight").mul_(1.5)
        assert torch.equal(replay.run(), net(IMAGE.clone()))
        unused = function is called_directly and module.startswith("dropped")
        assert bool(replay._given) == (module != "first" and not unused)


class Keeping(nn.Module):
    """A convolution that keeps what it gave, for code outside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Counting()
        self.kept = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.inner(x)
        return self.kept * 2


def looks_inside(n: Any, x: Tensor) -> Tensor:
    x = n.outer(x)
    return n.last(x + n.outer[0].kept)  # type: ignore[no-any-return]


def uses_a_weight_before_its_call(n: Any, x: Tensor) -> Tensor:
    x = F.conv2d(x, n.last.weight, padding=1)
    return n.last(n.outer(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("function", [looks_inside, uses_a_weight_before_its_call])
def test_where_a_resumed_pass_would_differ_every_pass_is_a_whole_one(function: Any) -> None:
    net = Net(function, outer=nn.Sequential(Keeping()), last=Counting())
    replays = [(Replay(net, "last", image), image) for image in (IMAGE, IMAGE.flip(0, 1))]
    with torch.no_grad():
        net.get_parameter("last.weight").mul_(1.5)
        for replay, image in replays:
            assert torch.equal(replay.run(), net(image.clone()))


def test_code_that_fails_without_calls_that_are_left_out_is_run_whole() -> None:
    seen: dict[str, Tensor] = {}

    def reads_what_a_hook_kept(n: Any, x: Tensor) -> Tensor:
        seen.clear()
        return n.last(n.outer(x)) * seen["inner"]  # type: ignore[no-any-return]

    net = Net(reads_what_a_hook_kept, outer=nn.Sequential(Counting()), last=Counting())
    net.get_submodule("outer.0").register_forward_hook(
        lambda _module, _inputs, output: seen.update(inner=output.mean())
    )
    replay = Replay(net, "last", IMAGE)
    with torch.no_grad():
        assert torch.equal(replay.run(), net(IMAGE.clone()))
