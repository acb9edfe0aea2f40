"""Duals for a network that comes without: fitted to map the images that it should make back to its input."""

import torch
from torch import nn

from drc_deploy.errors import TrainingError
from drc_deploy.progress import progress
from drc_deploy.train.data.patches import PatchSource
from drc_deploy.train.device import memory_checked, place, place_images
from drc_deploy.train.loop.losses import dual_regression_losses

STEPS = 300
"""Updates, after which the loss of the small dual networks hardly falls any more."""
LEARNING_RATE = 2e-3


def fit_duals(duals: nn.ModuleList, patches: PatchSource) -> None:
    """Train fresh duals, in place, on pairs of target and LR images.

    Random ones would outweigh the primal loss, and none at all would make the method another one.

    Raises:
        TrainingError: memory ran out, or the images are not finite.
    """
    place(duals).train().requires_grad_(True)
    optimizer = torch.optim.Adam(duals.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    with memory_checked(), progress("Fitting duals", STEPS) as bar:
        for step in range(STEPS):
            images = place_images(patches.sample(step))
            loss = dual_regression_losses(images, images, duals).dual
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar.advance()
    if not torch.isfinite(loss):
        raise TrainingError(
            "no dual network can be fitted: the network makes NaN or infinite images.",
            "Follow photographs instead: --target-images photographs.",
        )
