"""One update after the other of a search for widths: logits and weights are trained in turn.

Algorithm 1 of the DRC paper: differentiable search over candidate widths that share weights, important channels first.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.errors import TrainingError
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.device import laid_out_like, lay_out_moments, place_images, training_device
from drc_deploy.train.loop.graph_replay import GraphReplay, recorded
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
        fused = training_device().type == "cuda"
        self.alpha_optimizer = torch.optim.Adam([self.alphas], lr=options.alpha_rate, weight_decay=ALPHA_DECAY)
        self.weight_optimizer = torch.optim.Adam(self.weights, lr=options.weight_learning_rate, fused=fused)
        self._weight_rate = torch.zeros((), device=self.alphas.device)
        """Learning rate of the weights, where the recorded pass of the second order reads it."""
        self.replays = fused
        """Whether passes are recorded as CUDA graphs, in the next update, if they can be; may be changed until then."""
        self._recorded: tuple[GraphReplay, GraphReplay] | None = None

    def update(self, training: list[Tensor], validation: list[Tensor]) -> Tensor:
        """Update the logits on ``validation``, then the weights on ``training``; return the training loss."""
        self._anneal()
        if self.step == 0 and self.options.method == "drc":
            self.supernet.rank(training)
        both = [*training, *validation]
        if self.replays and self._recorded is None:
            self._recorded = self._record(place_images(both))
            self.replays = self._recorded is not None
        of_logits, of_weights = self._recorded or (self._logits_pass, self._weights_pass)
        of_logits(both)
        self.alpha_optimizer.step()
        loss = of_weights(training)
        self.supernet.rank_anew(self._share_of_batch)
        self.weight_optimizer.step()
        self.step += 1
        return loss

    def _record(self, both: list[Tensor]) -> tuple[GraphReplay, GraphReplay] | None:
        """Record the two passes of an update, unless the network waits for the device in one."""
        of_logits = recorded(self._logits_pass, both, [self.alphas])
        training = both[: len(both) // 2]
        of_weights = recorded(self._weights_pass, training, self.weights, after=of_logits) if of_logits else None
        return (of_logits, of_weights) if of_logits and of_weights else None

    def _logits_pass(self, both: Sequence[Tensor]) -> Tensor:
        """Leave the gradient of the logits in them; ``both`` are the training batch and the validation batch."""
        training, validation = list(both[: len(both) // 2]), list(both[len(both) // 2 :])
        if self.options.order == 1:
            # First order: the validation loss is taken at the present weights.
            (gradient,) = torch.autograd.grad(self.supernet(validation), self.alphas)
        else:
            gradient = unrolled_gradient(
                lambda: self.supernet(training),
                lambda: self.supernet(validation),
                self.alphas,
                self.weights,
                self._weight_rate,
            )
        self.alphas.grad = self._cost.constrained(gradient, self.alphas) if self._cost else gradient
        return self.alphas.grad

    def _weights_pass(self, training: Sequence[Tensor]) -> Tensor:
        """Leave clipped gradients in the weights, and ratings in the supernet; return the training loss."""
        with self.supernet.rating():
            loss = self.supernet(list(training))
        # Networks of other programs have parameters that nothing reads.
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        for weight, of_weight in zip(self.weights, gradients, strict=True):
            weight.grad = laid_out_like(of_weight, weight)
        torch.nn.utils.clip_grad_norm_(self.weights, GRADIENT_CLIP)
        result: Tensor = loss.detach()
        return result

    @property
    def _share_of_batch(self) -> float:
        """Return what this batch counts in the importance of channels; the L1 norm of weights needs no mean."""
        return max(NEW_IMPORTANCE, 1 / (self.step + 2)) if self.options.importance == "energy" else 1

    def _anneal(self) -> None:
        """Set both learning rates along a half cosine to zero."""
        factor = (1 + math.cos(math.pi * self.step / self.options.steps)) / 2
        self.alpha_optimizer.param_groups[0]["lr"] = self.options.alpha_rate * factor
        self.weight_optimizer.param_groups[0]["lr"] = self.options.weight_learning_rate * factor
        self._weight_rate.fill_(self.options.weight_learning_rate * factor)

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
        lay_out_moments(self.weight_optimizer)
