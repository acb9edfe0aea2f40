"""The dual regression loss of the paper."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Losses:
    """The two parts of the dual regression loss, each a scalar tensor."""

    primal: Tensor
    """Sum over scales of the mean absolute error of the images."""
    dual: Tensor
    """Sum over the duals of the mean absolute error of the image mapped back one scale down."""

    def total(self, dual_weight: float) -> Tensor:
        """Give primal + lambda * dual; the paper uses lambda = 0.1."""
        return self.primal + dual_weight * self.dual


def dual_regression_losses(outputs: Sequence[Tensor], targets: Sequence[Tensor], duals: nn.ModuleList) -> Losses:
    """Compare a network's images at every scale with the targets, and their dual images one scale down.

    Equation 2 of "Closed-loop Matters", kept by the DRC paper: the targets of the duals are the images of the data
    set, not the network's own; gradients flow through the duals into the network.

    Args:
        outputs: Images of ``SRNetwork.forward``, coarse to fine.
        targets: Images of the data set at the same scales, float32 in [0, 255].
        duals: Number i maps scale 2^(i+1) to 2^i. Empty: the dual part is zero.
    """
    primal = sum((F.l1_loss(o, t) for o, t in zip(outputs, targets, strict=True)), start=outputs[0].new_zeros(()))
    dual = sum(
        (F.l1_loss(net(outputs[i + 1]), targets[i]) for i, net in enumerate(duals)),
        start=outputs[0].new_zeros(()),
    )
    return Losses(primal, dual)
