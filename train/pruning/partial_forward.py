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
    stop = network.get_submodule(module)
    with torch.no_grad(), Recorder(network, module) as recorder:
        handle = stop.register_forward_hook(_stop)
        try:
            network(lr)
        except _ReachedError:
            pass
        finally:
            handle.remove()
    return recorder


class Replay:
    """A forward pass without what comes before one module: modules that ran before it give what they gave then.

    The weights of those modules must stay as they are. What lies between modules, such as sums, is computed again. So
    the pass can be resumed at any module of networks of any kind. Where that gives another image than a whole pass
    does, as may be with code that remembers what it was called with, every pass is a whole one.
    """

    def __init__(self, network: nn.Module, module: str, lr: Tensor) -> None:
        self._network, self._lr = network, lr
        self._given: dict[nn.Module, list[Any]] = {}
        """What each module gave, in the order of its calls; only of the outermost modules that had ended."""
        last = network.get_submodule(module)
        with torch.no_grad():
            self._given = _record(network, last, lr)
            if self._given and not self._is_whole(last):
                self._given = {}

    def _is_whole(self, last: nn.Module) -> bool:
        """Return whether a resumed pass computes what a whole one does.

        With other weights of the module and after another image: code may use weights without a call, and remember.
        """
        weights = list(last.parameters(recurse=False))
        kept = [weight.clone() for weight in weights]
        try:
            for weight in weights:
                weight.mul_(1.1)
            self._network(self._lr.flip(-1))
            return _equal(self.run(), self._network(self._lr.clone()))
        except Exception:  # what misses the calls that are left out may fail in any way
            return False
        finally:
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)

    def run(self) -> Any:
        """Return what the network returns for the image, with the weights as they are by now."""
        with _forwards({module: _replaying(module.forward, outputs) for module, outputs in self._given.items()}):
            return self._network(self._lr.clone())  # networks may write into their input


def _record(network: nn.Module, last: nn.Module, lr: Tensor) -> dict[nn.Module, list[Any]]:
    """Return what modules gave in a pass that ends where ``last`` begins; nothing if it never does."""
    ended: list[tuple[nn.Module, Any]] = []

    def recording(module: nn.Module, compute: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*inputs: Any, **named: Any) -> Any:
            if module is last:
                raise _ReachedError
            count, tensors = len(ended), _tensors((inputs, named))
            versions = [tensor._version for tensor in tensors]
            output = compute(*inputs, **named)
            # One that writes into its input, or gives a part of it, is run again, with the modules inside it that do
            # neither: others see what is written there.
            written = versions != [tensor._version for tensor in tensors]
            if not written and _storages(output).isdisjoint(_storages(tensors)):
                del ended[count:]
                ended.append((module, _copied(output)))
            return output

        return forward

    modules = [module for module in network.modules() if module is not network]
    # Compiled ones take no other ``forward``; they are run again.
    modules = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    try:
        with _forwards({module: recording(module, module.forward) for module in modules}):
            network(lr.clone())
    except _ReachedError:
        given = defaultdict(list)
        for module, output in ended:
            given[module].append(output)
        return dict(given)
    return {}


def _replaying(compute: Callable[..., Any], outputs: Sequence[Any]) -> Callable[..., Any]:
    """Return a forward function whose first calls return what is given instead of computing it."""
    remaining = iter(outputs)

    def forward(*inputs: Any, **named: Any) -> Any:
        for output in remaining:
            return _copied(output)
        return compute(*inputs, **named)

    return forward


@contextmanager
def _forwards(functions: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules compute by other functions while the block runs; their hooks stay."""
    own = {module: vars(module).get("forward") for module in functions}
    for module, function in functions.items():
        module.forward = function
    try:
        yield
    finally:
        for module, forward in own.items():
            del module.forward
            if forward is not None:
                module.forward = forward


def _equal(one: Any, other: Any) -> bool:
    """Return whether the tensors of two results are equal, but for 1e-5 of the greatest: GPUs add in any order."""
    pairs = zip(_tensors(one), _tensors(other), strict=True)
    return all(bool((a - b).abs().max() <= 1e-5 * b.abs().max()) for a, b in pairs)


def _storages(values: Any) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in _tensors(values)}


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _copied(values: Any) -> Any:
    """Return values with copies of their tensors: networks may write into what a module gave."""
    return tree_map_only(Tensor, torch.clone, values)
