"""What every pruning method is: a copy of a network that loses channels, piece by piece of work."""

import abc
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from drc_deploy.errors import UsageError
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.data.patches import PatchSource
from drc_deploy.train.device import place, place_images
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.reader import silence


@dataclass(frozen=True, slots=True)
class PruneTask:
    """What is to be pruned, and to what."""

    network: SRNetwork
    """Pretrained; it is not changed but for its device and mode."""
    duals: nn.ModuleList
    """Trained duals; empty when there are none."""
    widths: tuple[int, ...]
    """One per prunable layer, at most its present one."""
    sampler: PatchSource
    options: PruneOptions = field(default_factory=PruneOptions)

    def __post_init__(self) -> None:
        """Refuse widths that the network cannot have."""
        check_widths(self.network, self.widths)


def check_widths(network: SRNetwork, widths: Sequence[int]) -> None:
    """Find out whether a network can be pruned to these widths.

    Raises:
        UsageError: it cannot.
    """
    layers, now = network.prunable_layers, network.widths
    if len(widths) != len(now):
        raise UsageError(
            f"{network.spec.name} has {len(now)} prunable layers, but {len(widths)} widths were given.",
            "Use widths that were searched for this model.",
        )
    for layer, width, present in zip(layers, widths, now, strict=True):
        if not 1 <= width <= present:
            raise UsageError(
                f"layer {layer.name} has {present} channels and cannot keep {width}.", f"Give 1 to {present}."
            )


class Pruning(abc.ABC):
    """One method at work on one task: ``advance`` until ``done``, then ``kept`` and ``pruned`` hold the result."""

    def __init__(self, task: PruneTask) -> None:
        self.task, self.options = task, task.options
        self.original = place(task.network).eval().requires_grad_(False)
        self.duals = place(task.duals).eval().requires_grad_(False)
        self.pruned = copy.deepcopy(self.original)
        """Same shape as the original; what goes is only zero until ``shrink``."""
        self.kept: list[list[int]] = []
        """Channels kept in each prunable layer done so far, ascending, as indices into the present ones."""

    @property
    @abc.abstractmethod
    def work(self) -> int:
        """Units of progress in all."""

    @property
    @abc.abstractmethod
    def work_done(self) -> int:
        """Units of progress so far; a pure function of the state."""

    @property
    def done(self) -> bool:
        """Whether every layer has its channels."""
        return len(self.kept) == len(self.task.widths)

    @abc.abstractmethod
    def advance(self) -> None:
        """Do the next piece of work, after which the state can be saved."""

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on with the next piece of work."""
        return {"kept": self.kept, "network": self.pruned.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.kept = state["kept"]
        self.pruned.load_state_dict(state["network"])


class LayerwisePruning(Pruning):
    """A method that finishes one layer after another, in the network's order; earlier layers stay pruned."""

    @property
    def work(self) -> int:
        """Channels to keep in all layers."""
        return sum(self.task.widths)

    @property
    def work_done(self) -> int:
        """Channels kept in the layers that are done."""
        return sum(len(kept) for kept in self.kept)

    def advance(self) -> None:
        """Prune the next layer."""
        index = len(self.kept)
        width, present = self.task.widths[index], self.original.widths[index]
        if width == present:
            self.kept.append(list(range(present)))
            return
        first = index * self.options.batches  # each layer sees its own batches
        batches = [place_images(self.task.sampler.sample(first + i)) for i in range(self.options.batches)]
        self.kept.append(sorted(self.prune_layer(index, width, batches)))
        silence(self.pruned, index, self.kept[-1])

    @abc.abstractmethod
    def prune_layer(self, index: int, width: int, batches: Sequence[list[Tensor]]) -> list[int]:
        """Choose which ``width`` channels of a layer stay in ``self.pruned``, and adjust what reads them.

        The weights that read other channels of the layer must be zero afterwards.

        Args:
            index: Of the next layer; those before it are pruned already.
            width: Fewer than the layer has now.
            batches: Images of every scale on the device, coarse to fine, float32 in [0, 255].

        Returns:
            Indices of the channels that stay.
        """
