"""The dual regression loss of the paper, and the variants that the paper compares."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.train.loop.kernel_loss import kernel_loss
from drc_deploy.train.loop.run_options import DualVariant


def dual_design(variant: DualVariant) -> DualDesign:
    """Return the kind of dual networks that a variant trains; ``none`` trains none, and any kind will do."""
    return variant if variant in ("single", "wide") else "progressive"


@dataclass(frozen=True, slots=True)
class Losses:
    """The parts of the dual regression loss, each a scalar tensor."""

    primal: Tensor
    """Sum over scales of the mean absolute error of the images."""
    dual: Tensor
    """Sum over the duals of the mean absolute error of the image mapped back."""
    kernel: Tensor | None = None
    """Mean absolute error of the blur kernels, of a network that estimates some."""

    def total(self, dual_weight: float) -> Tensor:
        """Return primal + lambda * dual, and the kernel's part; the paper uses lambda = 0.1."""
        total = self.primal + dual_weight * self.dual
        return total if self.kernel is None else total + self.kernel


def dual_regression_losses(
    outputs: Sequence[Tensor], targets: Sequence[Tensor], duals: nn.ModuleList, kernel: Tensor | None = None
) -> Losses:
    """Compare a network's images at every scale with the targets, and their dual images with coarser targets.

    Equation 2 of "Closed-loop Matters", kept by the DRC paper: the targets of the duals are the images of the data
    set, not the network's own; gradients flow through the duals into the network.

    Args:
        outputs: Images of ``SRNetwork.forward``, coarse to fine.
        targets: Images of the data set at every scale, float32 in [0, 255]; a network of one image is compared with
            the last.
        duals: Number i maps scale 2^(i+1) to 2^i. One alone maps the finest to the coarsest. Empty: the dual part is
            zero.
        kernel: Estimated of the coarsest target, by networks that do (``LastKernel``).
    """
    wanted = targets[-len(outputs) :]
    primal = sum((F.l1_loss(o, t) for o, t in zip(outputs, wanted, strict=True)), start=outputs[0].new_zeros(()))
    inputs = outputs[-1:] if len(duals) == 1 else outputs[1:]
    dual = sum((F.l1_loss(net(inputs[i]), targets[i]) for i, net in enumerate(duals)), start=outputs[0].new_zeros(()))
    return Losses(primal, dual, None if kernel is None else kernel_loss(kernel, targets[0], targets[-1]))


def map_back(duals: nn.ModuleList, hr: Tensor) -> Tensor:
    """Map HR images down to scale 1 through all progressive duals: where the second cycle of Table 8 begins."""
    for dual in reversed(duals):
        hr = dual(hr)
    return hr
