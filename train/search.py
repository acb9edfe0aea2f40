"""Channel number search: how many channels does each layer need under the dual regression loss?

Algorithm 1 of the DRC paper: differentiable search over candidate widths that share weights, important channels first;
the logits of the candidates and the weights of the network are trained in turn on two halves of the data.
"""

import dataclasses
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import SRNetwork
from drc_deploy.progress import progress
from drc_deploy.train.device import memory_checked, place, place_images, training_device
from drc_deploy.train.gates import Gate, gated, mixture_gate
from drc_deploy.train.interruption import whole_step
from drc_deploy.train.limits import check_counts, check_not_negative
from drc_deploy.train.losses import dual_regression_losses
from drc_deploy.train.patches import PatchSampler
from drc_deploy.train.photographs import Photographs
from drc_deploy.train.state import load_state, save_state

CANDIDATE_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidate widths as shares of the width that the ratio allows (paper, Section 4.1)."""
GRADIENT_CLIP = 5.0
"""Largest norm of the weights' gradient in one step of the search (authors' code)."""
SAVE_EVERY_STEPS = 50


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How the search runs. Defaults follow the paper and its code."""

    ratio: float = 0.3
    """Share of channels to remove at least: no layer keeps more than (1 - ratio) of its channels, but for rounding."""
    steps: int = 2500
    """Updates of the logits, each followed by one of the weights (the authors' code: 2500)."""
    batch: int = 16
    patch: int = 48
    """Side of a patch in LR pixels."""
    round_to: int = 4
    """Widths are multiples of this."""
    weight_learning_rate: float = 1e-4
    alpha_learning_rate: float = 3e-4
    dual_weight: float = 0.1
    """Lambda, the weight of the dual part of the loss."""
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse options that cannot be run.

        Raises:
            UsageError: a ratio outside (0, 1), or a number that is out of range.
        """
        check_ratio(self.ratio)
        check_counts(self, "steps", "batch", "patch", "round_to")
        check_not_negative(self, "weight_learning_rate", "alpha_learning_rate", "dual_weight")


def check_ratio(ratio: float) -> None:
    """Check a pruning ratio.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0 < ratio < 1:
        raise UsageError(f"a ratio of {ratio} is not between 0 and 1.", "0.3 removes about a third of the channels.")


def candidate_widths(full: int, ratio: float, round_to: int = 4) -> list[int]:
    """Give the candidate widths of a layer of ``full`` channels, narrow to wide; duplicates are kept.

    floor(full * (1 - ratio) * share), rounded to a multiple of ``round_to`` (ties down), at least ``round_to`` and at
    most ``full``. The rounding is the authors' code's; the paper has none.
    """
    result = []
    for share in CANDIDATE_SHARES:
        # 1e-9: 0.7 * 10 is 6.999... in floating point
        width = math.floor(full * (1 - ratio) * share + 1e-9)
        remainder = width % round_to
        width += round_to - remainder if 2 * remainder > round_to else -remainder
        result.append(min(max(width, round_to), full))
    return result


class Searcher:
    """A network whose prunable layers are mixtures of candidate widths, with both optimisers.

    Raises:
        UsageError: no layer has a candidate that is narrower than it is now.
    """

    def __init__(self, network: SRNetwork, duals: nn.ModuleList, options: SearchOptions) -> None:
        device = training_device()
        self.network = place(network).train()
        self.duals = place(duals).train() if options.dual_weight else nn.ModuleList()
        self.options = options
        self.step = 0
        self.candidates = [
            # A network that is pruned already can only become narrower.
            torch.tensor(candidate_widths(layer.full_width, options.ratio, options.round_to)).clamp(max=now).to(device)
            for layer, now in zip(network.prunable_layers, network.widths, strict=True)
        ]
        if all(int(c.min()) == now for c, now in zip(self.candidates, network.widths, strict=True)):
            raise UsageError(
                f"no layer of this network can become narrower with ratio {options.ratio} and multiples of "
                f"{options.round_to}.",
                "Give a larger --ratio or a smaller --round-to.",
            )
        # Zeros as in the paper: at the start every candidate is equally likely.
        self.alphas = [torch.zeros(len(CANDIDATE_SHARES), device=device, requires_grad=True) for _ in self.candidates]
        self.weights = [p for m in (self.network, self.duals) for p in m.parameters() if p.requires_grad]
        self.alpha_optimizer = torch.optim.Adam(self.alphas, lr=options.alpha_learning_rate, weight_decay=1e-3)
        self.weight_optimizer = torch.optim.Adam(self.weights, lr=options.weight_learning_rate)

    def update(self, training: list[Tensor], validation: list[Tensor]) -> Tensor:
        """Update the logits on ``validation``, then the weights on ``training``; give the training loss.

        First order: the validation loss is taken at the present weights, not at those after a virtual step.
        """
        self._anneal()
        gradients = torch.autograd.grad(self._loss(validation), self.alphas)
        for alpha, gradient in zip(self.alphas, gradients, strict=True):
            alpha.grad = gradient
        self.alpha_optimizer.step()
        loss = self._loss(training)
        gradients = torch.autograd.grad(loss, self.weights)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, GRADIENT_CLIP)
        self.weight_optimizer.step()
        self.step += 1
        return loss.detach()

    def _anneal(self) -> None:
        """Set both learning rates along a half cosine to zero."""
        factor = (1 + math.cos(math.pi * self.step / self.options.steps)) / 2
        self.alpha_optimizer.param_groups[0]["lr"] = self.options.alpha_learning_rate * factor
        self.weight_optimizer.param_groups[0]["lr"] = self.options.weight_learning_rate * factor

    def _loss(self, images: list[Tensor]) -> Tensor:
        images = place_images(images)
        with gated(self.network, self._gates()):
            outputs = self.network(images[0])
        return dual_regression_losses(outputs, images, self.duals).total(self.options.dual_weight)

    def _gates(self) -> dict[str, Gate]:
        return {layer.consumer: self._gate(i, layer.consumer) for i, layer in enumerate(self.network.prunable_layers)}

    def _gate(self, index: int, consumer: str) -> Gate:
        convolution = self.network.convolution(consumer)
        return lambda: mixture_gate(self.alphas[index], self.candidates[index], convolution)

    def widths(self) -> list[int]:
        """Give the most likely candidate of each layer; of equally likely ones the widest."""
        result = []
        for alpha, candidates in zip(self.alphas, self.candidates, strict=True):
            best = int((alpha == alpha.max()).nonzero().max())
            result.append(int(candidates[best]))
        return result

    def state(self) -> dict[str, Any]:
        """Give all that a later run needs to go on exactly here."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "duals": self.duals.state_dict(),
            "alphas": self.alphas,
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.duals.load_state_dict(state["duals"])
        with torch.no_grad():
            for alpha, saved in zip(self.alphas, state["alphas"], strict=True):
                alpha.copy_(saved)
        self.alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])


def search_widths(
    searcher: Searcher, photographs: Photographs, state_path: Path, *, inputs: dict[str, Any]
) -> list[int]:
    """Search to the end, going on from ``state_path`` if it holds an unfinished search of the same options.

    Args:
        searcher: Network, duals and options; its network is changed.
        photographs: At least two; one half trains the weights, the other the logits.
        state_path: Where the state is kept; the caller deletes it once the result is on disk.
        inputs: What else must be the same when a search goes on, such as the checkpoint.

    Returns:
        One width per prunable layer.

    Raises:
        TrainingError: fewer than two photographs, the loss became NaN, or memory ran out.
    """
    samplers = _halves(photographs, searcher.options, searcher.network.scale)
    options = {**dataclasses.asdict(searcher.options), **inputs}
    if state := load_state(state_path, options):
        searcher.restore(state["search"])

    def save() -> None:
        save_state(state_path, {"options": options, "search": searcher.state()})

    try:
        with memory_checked(), closing(samplers[0]), closing(samplers[1]):
            _search(searcher, samplers, save)
    except KeyboardInterrupt:
        save()
        raise
    return searcher.widths()


def _halves(photographs: Photographs, options: SearchOptions, scale: int) -> tuple[PatchSampler, PatchSampler]:
    entries = photographs.entries
    if len(entries) < 2:
        raise TrainingError(
            f"a search needs at least 2 photographs, one for each half of the data, but there is {len(entries)}.",
            "Give a folder with more photographs.",
        )
    # Every other one: a folder sorted by name often has one kind of picture first.
    first, second = (
        PatchSampler(
            photographs.subset(half), scale=scale, patch=options.patch, batch=options.batch, seed=options.seed + i
        )
        for i, half in enumerate((entries[::2], entries[1::2]))
    )
    return first, second


def _search(searcher: Searcher, samplers: tuple[PatchSampler, PatchSampler], save: Callable[[], None]) -> None:
    training, validation = samplers
    steps = searcher.options.steps
    with progress("Searching widths", steps, done=searcher.step) as bar:
        while searcher.step < steps:
            step = searcher.step
            with whole_step():
                loss = searcher.update(training.sample(step), validation.sample(step))
            note = ""
            if searcher.step % SAVE_EVERY_STEPS == 0 or searcher.step == steps:
                # The loss is looked at only here: reading it would stop a GPU in every step.
                if not torch.isfinite(loss):
                    raise TrainingError(f"the search loss became {float(loss)}.", "Check the checkpoint and the data.")
                note = f"loss {float(loss):.3f}"
                save()
            bar.advance(note=note)
