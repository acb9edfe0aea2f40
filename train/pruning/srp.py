"""SRP: the same filters of tied layers are faded out by a growing penalty while the network trains.

Zhang, Wang, Qin and Fu, "Learning Efficient Image Super-Resolution Networks via Structure-Regularized Pruning" (ICLR
2022). There the layers tied by a residual sum lose the same filters, since the sum does. Our networks keep the sums and
narrow the filters inside the blocks; tied are those of the blocks of one stage.
"""

import re
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from drc_deploy.errors import TrainingError
from drc_deploy.train.device import place_images
from drc_deploy.train.loop.kernel_loss import LastKernel
from drc_deploy.train.loop.losses import dual_regression_losses
from drc_deploy.train.pruning.magnitude import channel_sizes
from drc_deploy.train.pruning.pruning import PruneTask, Pruning
from drc_deploy.train.reader import channels_of

PASSES = 250
"""Passes over the pruning data: five times the work of greedy pruning with four channels a step."""
LEARNING_RATE = 1e-4
GONE = 1e-10
"""A faded weight below this becomes zero: a CPU takes a hundred times as long for the subnormal numbers that follow."""
LARGEST_DECAY = 0.2
"""By how much an update shrinks the fading weights at the end; at the beginning by nothing."""


class StructurePenaltyPruning(Pruning):
    """Chooses by the norms of the pretrained weights, then trains the network while what was not chosen fades out."""

    def __init__(self, task: PruneTask) -> None:
        trainable = {name for name, p in task.network.named_parameters() if p.requires_grad}  # not the mean shifts
        super().__init__(task)
        self._step = 0
        self._chosen = tied_choice(self)
        self._names = trainable
        self._parameters = [p for name, p in self.pruned.named_parameters() if name in trainable]
        self._optimizer = torch.optim.Adam(self._parameters, lr=LEARNING_RATE)

    @property
    def work(self) -> int:
        """Updates in all."""
        return PASSES * self.options.batches

    @property
    def work_done(self) -> int:
        """Updates so far."""
        return self._step

    def advance(self) -> None:
        """Make one pass of updates; after the last, what has faded is switched off.

        Raises:
            TrainingError: the loss is not finite.
        """
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        for _ in range(self.options.batches):
            loss = self._update()
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss became {float(loss)}.", "Check the checkpoint and the data.")
        if self._step == self.work:
            self._fade(1.0)
            self.kept = self._chosen

    def _update(self) -> Tensor:
        images = place_images(self.task.sampler.sample(self._step))
        with LastKernel(self.pruned) as kernel:
            outputs = self.pruned(images[0])
        losses = dual_regression_losses(outputs, images, self.duals, kernel.take())
        loss = losses.total(self.options.dual_weight)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        # Apart from Adam, which would divide the penalty by the size of its own gradients.
        self._fade(LARGEST_DECAY * self._step / self.work)
        self._step += 1
        return loss.detach()

    def _fade(self, share: float) -> None:
        """Take this share off all parameters that make or read channels that are not chosen."""
        tensors = self.pruned.state_dict()
        for layer, kept in zip(self.pruned.present_layers, self._chosen, strict=True):
            factor = torch.full((layer.full_width,), 1 - share, device=self._parameters[0].device)
            factor[kept] = 1
            for part in layer.slices:
                if part.tensor in self._names:
                    channels = channels_of(tensors[part.tensor], part, layer.full_width)
                    channels.mul_(factor.view(-1, *(1,) * (channels.dim() - 1)))
                    channels.masked_fill_(channels.abs() < GONE, 0)

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on with the next pass."""
        return {**super().state(), "step": self._step, "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        super().restore(state)
        self._step = state["step"]
        self._optimizer.load_state_dict(state["optimizer"])


def tied_choice(pruning: Pruning) -> list[list[int]]:
    """Choose for each layer the channels whose pretrained weights are largest, the same in tied layers.

    Tied are the blocks of one stage, as far as they have the same width and are to have the same. A channel's size is
    the L1 norm of the weights that make it and that read it, each relative to the layer's.
    """
    groups = defaultdict(list)
    for index, (layer, width) in enumerate(zip(pruning.original.prunable_layers, pruning.task.widths, strict=True)):
        present = pruning.original.widths[index]
        block_of = re.match(r"(stage\d+)\.block", layer.name)
        stage = block_of[1] if block_of else layer.name
        groups[stage, present, width].append(index)
    chosen: dict[int, list[int]] = {}
    for (_, _, width), members in groups.items():
        size = torch.stack([channel_sizes(pruning.original, i) for i in members]).sum(dim=0)
        kept = sorted(size.topk(width).indices.tolist())
        chosen |= dict.fromkeys(members, kept)
    return [chosen[index] for index in range(len(chosen))]
