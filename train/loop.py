"""The training loop: the same for training from scratch and for fine-tuning a pruned network."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.errors import TrainingError
from drc_deploy.models.network import SRNetwork
from drc_deploy.progress import Progress, progress
from drc_deploy.train.data import PatchSampler
from drc_deploy.train.device import memory_checked, place, place_images
from drc_deploy.train.interruption import whole_step
from drc_deploy.train.limits import check_counts, check_not_negative, check_rates
from drc_deploy.train.losses import dual_regression_losses
from drc_deploy.train.state import load_state, save_state

SAVE_INTERVAL_S = 60.0
"""Seconds between two savings of the state, so that a kill costs at most this much work."""
WARM_UP_STEPS = 100
"""Steps over which the learning rate rises from zero; Adam's moments are empty at first."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What one run of the loop does. The defaults are the paper's where the paper has one."""

    steps: int
    """Updates of the weights."""
    batch: int = 32
    """Patches per update (paper: 32)."""
    patch: int = 48
    """Side of a patch in LR pixels (paper: 48)."""
    learning_rate: float = 1e-4
    """Adam's learning rate at its highest (paper: 1e-4)."""
    final_learning_rate: float = 1e-7
    """Where the cosine schedule ends (paper: 1e-7)."""
    dual_weight: float = 0.1
    """Lambda, the weight of the dual part of the loss (paper: 0.1); 0 trains without duals."""
    seed: int = 1
    """Decides the patches; the initial weights come with the network."""

    def __post_init__(self) -> None:
        """Refuse options that cannot be run.

        Raises:
            UsageError: a number that is out of range.
        """
        check_counts(self, "steps", "batch", "patch")
        check_rates(self, "learning_rate")
        check_not_negative(self, "dual_weight")

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of update ``step`` (from 0): linear warm-up, then a half cosine."""
        warm_up = min(WARM_UP_STEPS, self.steps // 10)
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        phase = (step - warm_up) / max(1, self.steps - warm_up)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * phase)) / 2


class Trainer:
    """A network and its duals in training, whose state can be saved and restored exactly."""

    def __init__(self, network: SRNetwork, duals: nn.ModuleList, options: TrainOptions) -> None:
        self.network = place(network).train()
        self.duals = place(duals).train() if options.dual_weight else nn.ModuleList()
        self.options = options
        self.step = 0
        self.seconds = 0.0
        """Time spent in updates, over all sessions of the run."""
        self.recent_losses: list[float] = []
        """Of the latest hundredth of the steps."""
        # Adam works per parameter: one optimiser is the same as the authors' separate ones, and resumes as one.
        self.optimizer = torch.optim.Adam(self._parameters(), lr=options.learning_rate)

    def _parameters(self) -> list[nn.Parameter]:
        return [p for module in (self.network, self.duals) for p in module.parameters() if p.requires_grad]

    def update(self, images: list[Tensor]) -> float:
        """Make one update from a batch (see ``PatchSampler.sample``) and give its loss.

        Raises:
            TrainingError: the loss is NaN or infinite; the weights are as they were before.
        """
        start = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate_at(self.step)
        images = place_images(images)
        losses = dual_regression_losses(self.network(images[0]), images, self.duals)
        loss = losses.total(self.options.dual_weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.step}.",
                "Lower --learning-rate; the last saved state is kept.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        self.seconds += time.monotonic() - start
        self.recent_losses = [*self.recent_losses, value][-max(1, self.options.steps // 100) :]
        return value

    @property
    def mean_loss(self) -> float:
        """Mean of the recent losses; there must have been an update."""
        return sum(self.recent_losses) / len(self.recent_losses)

    def check_finite(self) -> None:
        """Find out whether the weights are numbers; a finite loss may still have had gradients that are not.

        Raises:
            TrainingError: some are NaN or infinite.
        """
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self._parameters()):
            raise TrainingError(
                f"the weights became NaN or infinite by step {self.step}.",
                "Lower --learning-rate; the last saved state is kept.",
            )

    def state(self) -> dict[str, Any]:
        """Give all that a later run needs to go on exactly here."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "recent_losses": self.recent_losses,
            "network": self.network.state_dict(),
            "duals": self.duals.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.network.load_state_dict(state["network"])
        self.duals.load_state_dict(state["duals"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.recent_losses = state["step"], state["seconds"], state["recent_losses"]


def run_training(trainer: Trainer, sampler: PatchSampler, state_path: Path, *, inputs: dict[str, Any]) -> float:
    """Train to the end, going on from ``state_path`` if it holds an unfinished run of the same options.

    The state is saved every minute and when the run is interrupted; it stays after the last step, so that the caller
    deletes it once the result is on disk.

    Args:
        trainer: Network, duals and options.
        sampler: Where batches come from.
        state_path: Where the state is kept.
        inputs: What else must be the same when a run goes on, such as the data and the initial checkpoint.

    Returns:
        Mean loss over the last hundredth of the steps.

    Raises:
        TrainingError: the loss or the weights became NaN or infinite, or memory ran out.
        UsageError: ``state_path`` holds a run with other options.
    """
    options = {**dataclasses.asdict(trainer.options), **inputs}
    if state := load_state(state_path, options):
        trainer.restore(state["trainer"])
    try:
        with memory_checked(), progress("Training", trainer.options.steps, done=trainer.step) as bar:
            _train(trainer, sampler, bar, lambda: _save(trainer, state_path, options))
    except KeyboardInterrupt:
        _save(trainer, state_path, options)
        raise
    return trainer.mean_loss


def _save(trainer: Trainer, path: Path, options: dict[str, Any]) -> None:
    trainer.check_finite()
    save_state(path, {"options": options, "trainer": trainer.state()})


def _train(trainer: Trainer, sampler: PatchSampler, bar: Progress, save: Callable[[], None]) -> None:
    steps = trainer.options.steps
    last_save = time.monotonic()
    while trainer.step < steps:
        with whole_step():
            trainer.update(sampler.sample(trainer.step))
        bar.advance(note=f"loss {trainer.mean_loss:.3f}")
        if time.monotonic() - last_save > SAVE_INTERVAL_S or trainer.step == steps:
            save()
            last_save = time.monotonic()
