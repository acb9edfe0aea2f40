"""Running parts of a network, and looking at single modules while it runs."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.models.network import SRNetwork


def step_of(network: SRNetwork, module: str) -> int:
    """Return the number of the step (see ``SRNetwork.steps``) that a module belongs to."""
    names = [step.modules for step in network.steps()]
    return next(i for i, name in enumerate(names) if not name or f"{module}.".startswith(f"{name}."))


def run_steps(network: SRNetwork, state: Any, first: int, end: int | None) -> Any:
    """Run some steps of a forward pass, from the one numbered ``first`` to the one before ``end``."""
    for step in network.steps()[first:end]:
        state = step.run(state)
    return state


class Recorder(AbstractContextManager["Recorder"]):
    """Keeps input and output of one module of the network while the block runs."""

    input: Tensor
    output: Tensor

    def __init__(self, network: SRNetwork, module: str) -> None:
        self._handle = network.get_submodule(module).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (self.input,) = inputs
        self.output = output

    def __exit__(self, *_error: object) -> None:
        self._handle.remove()


def run_up_to(network: SRNetwork, module: str, lr: Tensor) -> Recorder:
    """Run a network, without gradients, only as far as to know a module's input and output."""
    with torch.no_grad(), Recorder(network, module) as recorder:
        run_steps(network, lr, 0, step_of(network, module) + 1)
    return recorder
