"""Running a network only as far as it is needed, or only from there on, and looking at single modules meanwhile."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only


class Recorder(AbstractContextManager["Recorder"]):
    """Keeps input and output of one module of the network while the block runs, as they are when it has run.

    Networks may write into either later, as an activation in place does.
    """

    input: Tensor
    output: Tensor

    def __init__(self, network: nn.Module, module: str) -> None:
        self._handle = network.get_submodule(module).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = inputs
        self.input, self.output = x.clone(), output.clone()

    def __exit__(self, *_error: object) -> None:
        self._handle.remove()


class _ReachedError(BaseException):
    """Ends a forward pass; no network catches it as one of its own errors."""


def _stop(*_call: object) -> None:
    raise _ReachedError


def run_up_to(network: nn.Module, module: str, lr: Tensor) -> Recorder:
    """Run a network, without gradients, only as far as to know a module's input and output."""
    with torch.no_grad(), Recorder(network, module) as recorder:
        _run_until(network, lr, network.get_submodule(module).register_forward_hook(_stop))
    return recorder


def _run_until(network: nn.Module, lr: Tensor, stop: Any) -> None:
    """Run a network until a hook that calls ``_stop``, and take the hook away."""
    try:
        network(lr)
    except _ReachedError:
        pass
    finally:
        stop.remove()


class Replay:
    """A forward pass without what comes before one module: modules that ran before it give what they gave then.

    The weights of those modules must stay as they are. What lies between modules, such as sums, is computed again. So
    the pass can be resumed at any module of any network that computes the same for the same image.
    """

    def __init__(self, network: nn.Module, module: str, lr: Tensor) -> None:
        self._network, self._lr = network, lr
        self._given: dict[nn.Module, list[Any]] = {}
        """What each module gave, in the order of its calls; only of the outermost modules that had ended."""
        with torch.no_grad():
            self._record(network.get_submodule(module))

    def _record(self, last: nn.Module) -> None:
        ended: list[tuple[nn.Module, Any]] = []
        # For each call that has begun: how many others had ended by then, and the versions of its input.
        begun: list[tuple[int, list[tuple[Tensor, int]]]] = []

        def before(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            begun.append((len(ended), [(x, x._version) for x in _tensors((inputs, named))]))

        def after(module: nn.Module, _inputs: object, output: Any) -> None:
            count, versions = begun.pop()
            if any(x._version != version for x, version in versions):
                return  # it writes into its input: run again, with the modules inside it that do not
            del ended[count:]
            ended.append((module, _copied(output)))

        modules = [module for module in self._network.modules() if module is not self._network]
        handles = [module.register_forward_pre_hook(before, with_kwargs=True) for module in modules]
        handles += [module.register_forward_hook(after) for module in modules]
        try:
            _run_until(self._network, self._lr, last.register_forward_pre_hook(_stop))
        finally:
            for handle in handles:
                handle.remove()
        given = defaultdict(list)
        for module, output in ended:
            given[module].append(output)
        self._given = dict(given)

    def run(self) -> Any:
        """Return what the network returns for the image, with the weights as they are by now."""
        with _replayed(self._given):
            return self._network(self._lr)


@contextmanager
def _replayed(given: dict[nn.Module, list[Any]]) -> Iterator[None]:
    """Let the first calls of modules return what is given instead of computing it."""

    def replay(outputs: Sequence[Any], compute: Callable[..., Any]) -> Callable[..., Any]:
        remaining = iter(outputs)

        def forward(*inputs: Any, **named: Any) -> Any:
            for output in remaining:
                return _copied(output)
            return compute(*inputs, **named)

        return forward

    own = {module: vars(module).get("forward") for module in given}
    for module, outputs in given.items():
        module.forward = replay(outputs, module.forward)
    try:
        yield
    finally:
        for module, forward in own.items():
            del module.forward
            if forward is not None:
                module.forward = forward


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _copied(values: Any) -> Any:
    """Return values with copies of their tensors: networks may write into what a module gave."""
    return tree_map_only(Tensor, torch.clone, values)
