"""A teacher for fine-tuning: the student's last features follow those of a larger network.

Only the authors' code has it, for the pruned DRN-S under DRN-L; the paper speaks of fine-tuning alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint import Parent
from drc_deploy.errors import UsageError
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.device import place
from drc_deploy.train.loop.limits import check_not_negative
from drc_deploy.train.loop.precision import autocast, keep_images_float32
from drc_deploy.train.loop.run_options import TrainingPrecision


class LastFeatures:
    """What a network's last convolution reads, which makes the image: kept at every forward pass.

    Raises:
        UsageError: it is a network of another program.
    """

    def __init__(self, network: SRNetwork) -> None:
        if not network.float32_modules:
            raise UsageError(f"which features of a {network.spec.name} are the last is not known.", "Use no teacher.")
        # The last of the modules that stay float32 when the network is halved.
        network.get_submodule(network.float32_modules[-1]).register_forward_pre_hook(self._keep)
        self._features: Tensor | None = None

    def _keep(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (self._features,) = inputs

    def take(self) -> Tensor:
        """Return the features of the latest pass, (N, C, H, W), and forget them."""
        features, self._features = self._features, None
        assert features is not None
        return features


class Teacher(nn.Module):
    """A frozen network, and how much it counts.

    Attributes:
        weight: Of its loss, next to the dual regression loss (authors' code: 1).
        sha256: Of its checkpoint.
    """

    def __init__(self, network: SRNetwork, weight: float, sha256: str) -> None:
        super().__init__()
        self.network = place(network).eval().requires_grad_(False)
        self.weight, self.sha256 = weight, sha256
        self._precision: TrainingPrecision = "fp32"
        check_not_negative(self, "weight")
        self._features = LastFeatures(network)

    def prepare(self, precision: TrainingPrecision) -> None:
        """Let the teacher compute in the precision of the student."""
        self._precision = precision
        if precision != "fp32":
            keep_images_float32(self.network)

    def forward(self, student: Tensor, lr: Tensor) -> Tensor:
        """Return the mean squared error between the channel means of the student's last features and of its own.

        Args:
            student: (N, C, H, W) features; gradients flow into them.
            lr: (N, 3, h, w) in [0, 255], what the student saw.
        """
        with torch.no_grad(), autocast(self._precision):
            self.network.upscale(lr)
        return F.mse_loss(student.float().mean(dim=1), self._features.take().float().mean(dim=1))


def load_teacher(parent: Parent, *, scale: int, weight: float = 1.0) -> Teacher:
    """Return the network of a checkpoint as a teacher for networks of ``scale``.

    Raises:
        UsageError: it has another scale, or the weight is negative.
    """
    network = parent.checkpoint.build_network()
    if network.scale != scale:
        raise UsageError(
            f"the teacher {parent.path} is for x{network.scale}, but the network for x{scale}.",
            f"Give a teacher for x{scale}.",
        )
    return Teacher(network, weight, parent.sha256)
