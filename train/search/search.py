"""Channel number search: how many channels does each layer need under the dual regression loss?

Algorithm 1 of the DRC paper: differentiable search over candidate widths that share weights, important channels first;
the logits of the candidates and the weights of the network are trained in turn on two halves of the data.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.checkpoint import Checkpoint
from drc_deploy.errors import TrainingError
from drc_deploy.interruption import whole_step
from drc_deploy.models.network import SRNetwork
from drc_deploy.progress import progress
from drc_deploy.train.data.patches import PatchSampler, PatchSource
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.targets import FollowedPatches
from drc_deploy.train.device import memory_checked
from drc_deploy.train.loop.state import load_state, save_state
from drc_deploy.train.search.cost import CostBudget
from drc_deploy.train.search.expected_cost import ExpectedCost
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.supernet import Supernet
from drc_deploy.train.search.unrolled import unrolled_gradient

GRADIENT_CLIP = 5.0
"""Largest norm of the weights' gradient in one step of the search (authors' code)."""
ALPHA_DECAY = 1e-3
"""Weight decay of the logits (authors' code)."""
NEW_IMPORTANCE = 0.05
"""Least share of the present batch in the importance of channels: a mean over about the last 20."""
SAVE_EVERY_STEPS = 50
Halves = tuple[PatchSource, PatchSource]
"""Patches that train the weights, and patches that train the logits."""
STATEFUL = ("supernet", "alpha_optimizer", "weight_optimizer")
"""Attributes of a ``Searcher`` whose state goes on in a later run."""


class Searcher:
    """A supernet with both optimisers, whose state can be saved and restored exactly.

    Args:
        network: Trained; it is changed.
        duals: Trained with it.
        options: What to search for.
        budget: The most that the result may cost, unless ``options.target`` is "channels".

    Raises:
        UsageError: no candidates that the budget allows.
    """

    def __init__(
        self, network: SRNetwork, duals: nn.ModuleList, options: SearchOptions, budget: CostBudget | None = None
    ) -> None:
        self.options, self.step = options, 0
        self.supernet = Supernet(network, duals, options)
        self.alphas, self.weights = self.supernet.alphas, self.supernet.weights()
        self._cost = ExpectedCost(self.supernet.candidates, budget, round_to=options.round_to) if budget else None
        if self._cost:
            with torch.no_grad():
                self.alphas.copy_(self._cost.starting_logits())
        self.alpha_optimizer = torch.optim.Adam([self.alphas], lr=options.alpha_rate, weight_decay=ALPHA_DECAY)
        self.weight_optimizer = torch.optim.Adam(self.weights, lr=options.weight_learning_rate)

    def update(self, training: list[Tensor], validation: list[Tensor]) -> Tensor:
        """Update the logits on ``validation``, then the weights on ``training``; return the training loss."""
        self._anneal()
        if self.step == 0 and self.options.method == "drc":
            self.supernet.rank(training)
        gradient = self._alpha_gradient(training, validation)
        self.alphas.grad = self._cost.constrained(gradient, self.alphas) if self._cost else gradient
        self.alpha_optimizer.step()
        with self.supernet.ranking(self._share_of_batch):
            loss = self.supernet(training)
        # Networks of other programs have parameters that nothing reads.
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        for weight, of_weight in zip(self.weights, gradients, strict=True):
            weight.grad = of_weight
        torch.nn.utils.clip_grad_norm_(self.weights, GRADIENT_CLIP)
        self.weight_optimizer.step()
        self.step += 1
        result: Tensor = loss.detach()
        return result

    def _alpha_gradient(self, training: list[Tensor], validation: list[Tensor]) -> Tensor:
        if self.options.order == 1:
            # First order: the validation loss is taken at the present weights.
            return torch.autograd.grad(self.supernet(validation), self.alphas)[0]
        rate = self.weight_optimizer.param_groups[0]["lr"]
        return unrolled_gradient(
            lambda: self.supernet(training), lambda: self.supernet(validation), self.alphas, self.weights, rate
        )

    @property
    def _share_of_batch(self) -> float:
        """Return what this batch counts in the importance of channels; the L1 norm of weights needs no mean."""
        return max(NEW_IMPORTANCE, 1 / (self.step + 2)) if self.options.importance == "energy" else 1

    def _anneal(self) -> None:
        """Set both learning rates along a half cosine to zero."""
        factor = (1 + math.cos(math.pi * self.step / self.options.steps)) / 2
        self.alpha_optimizer.param_groups[0]["lr"] = self.options.alpha_rate * factor
        self.weight_optimizer.param_groups[0]["lr"] = self.options.weight_learning_rate * factor

    def probabilities(self) -> Tensor:
        """Return the softmax of the logits: (layers, candidates)."""
        return torch.softmax(self.alphas.detach(), dim=1)

    def check_finite(self, loss: Tensor) -> None:
        """Find out whether loss and logits are numbers.

        Raises:
            TrainingError: one is not.
        """
        if not torch.isfinite(loss) or not torch.isfinite(self.alphas).all():
            raise TrainingError(f"the search loss became {float(loss)}.", "Check the checkpoint and the data.")

    def widths(self) -> list[int]:
        """Return the most likely candidate of each layer, of equally likely ones the widest.

        Under a budget: the widths nearest to the expected ones that it allows.
        """
        if self._cost:
            return self._cost.widths(self.probabilities())
        result = []
        for alpha, candidates in zip(self.alphas, self.supernet.candidates, strict=True):
            best = int((alpha == alpha.max()).nonzero().max())
            result.append(int(candidates[best]))
        return result

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on exactly here."""
        return {"step": self.step} | {name: getattr(self, name).state_dict() for name in STATEFUL}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.step = state["step"]
        for name in STATEFUL:
            getattr(self, name).load_state_dict(state[name])


def search_widths(searcher: Searcher, halves: Halves, state_path: Path, *, inputs: dict[str, Any]) -> list[int]:
    """Search to the end, going on from ``state_path`` if it holds an unfinished search of the same options.

    Args:
        searcher: Network, duals and options; its network is changed.
        halves: Patches of one half of the data, which trains the weights, and of the other, which trains the logits.
        state_path: Where the state is kept; the caller deletes it once the result is on disk.
        inputs: What else must be the same when a search goes on, such as the checkpoint.

    Returns:
        One width per prunable layer.

    Raises:
        TrainingError: the loss became NaN, or memory ran out.
    """
    options = {**dataclasses.asdict(searcher.options), **inputs}
    if state := load_state(state_path, options):
        searcher.restore(state["search"])

    def save() -> None:
        save_state(state_path, {"options": options, "search": searcher.state()})

    try:
        with memory_checked():
            _search(searcher, halves, save)
    except KeyboardInterrupt:
        save()
        raise
    return searcher.widths()


@contextmanager
def open_halves(photographs: Photographs, checkpoint: Checkpoint, options: SearchOptions) -> Iterator[Halves]:
    """Divide photographs into two halves, and close their readers after the block.

    Args:
        photographs: At least two.
        checkpoint: What is searched; its images are the targets if ``options`` say so.
        options: Say which patches.

    Raises:
        TrainingError: fewer than two photographs.
    """
    entries = photographs.entries
    if len(entries) < 2:
        raise TrainingError(
            f"a search needs at least 2 photographs, one for each half of the data, but there is {len(entries)}.",
            "Give a folder with more photographs.",
        )
    follow = checkpoint.build_network() if options.target_images == "self" else None
    with ExitStack() as stack:
        halves: list[PatchSource] = []
        for i in (0, 1):
            # Every other one: a folder sorted by name often has one kind of picture first.
            half, seed = dataclasses.replace(photographs, entries=entries[i::2]), options.seed + i
            patches = PatchSampler(
                half, scale=checkpoint.spec.scale, patch=options.patch, batch=options.batch, seed=seed
            )
            stack.callback(patches.close)
            halves.append(FollowedPatches(patches, follow) if follow else patches)
        yield halves[0], halves[1]


def _search(searcher: Searcher, halves: Halves, save: Callable[[], None]) -> None:
    training, validation = halves
    steps = searcher.options.steps
    with progress("Searching widths", steps, done=searcher.step) as bar:
        while searcher.step < steps:
            step = searcher.step
            with whole_step():
                loss = searcher.update(training.sample(step), validation.sample(step))
            note = ""
            if searcher.step % SAVE_EVERY_STEPS == 0 or searcher.step == steps:
                # The loss is looked at only here: reading it would stop a GPU in every step.
                searcher.check_finite(loss)
                note = f"loss {float(loss):.3f}"
                save()
            bar.advance(note=note)
