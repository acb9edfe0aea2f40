"""What networks that make one image only have in common, whatever they are built of."""

import abc
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.errors import UsageError
from drc_deploy.models.drn import straight_dual
from drc_deploy.models.network import SRNetwork

DUAL_HIDDEN = 16
"""Channels of the dual network of SwinIR, DAT and DCLS in the authors' code."""


class OneImageNetwork(SRNetwork):
    """A network without coarser images, which knows nothing of casts: torch's autocast halves it."""

    one_image = True
    _autocast: torch.dtype | None = None

    @abc.abstractmethod
    def compute(self, lr: Tensor) -> Tensor:
        """Return the image; see ``SRNetwork.upscale``."""

    def upscale(self, lr: Tensor) -> Tensor:
        """Return the image; see ``SRNetwork.upscale``."""
        with self._cast(lr):
            result = self.compute(lr)
        return result if self._autocast is None else result.float()

    def _cast(self, lr: Tensor) -> AbstractContextManager[None]:
        """Return a block in which the body computes as ``cast_body`` wants it."""
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(lr.device.type, self._autocast, cache_enabled=False)

    def forward(self, lr: Tensor) -> list[Tensor]:
        """Return one image, the finest; see ``SRNetwork.forward``."""
        return [self.upscale(lr).float()]  # under torch's autocast, in training, images may be of 16 bits

    def build_duals(self, design: DualDesign = "single") -> nn.ModuleList:
        """Build the one dual network from the finest image to the input.

        Raises:
            UsageError: the scale is no power of two, so that halving does not end at the input.
        """
        halvings = self.scale.bit_length() - 1
        if self.scale != 1 << halvings or not halvings:
            raise UsageError(f"there is no dual network for scale {self.scale}.", "Duals are for scales 2, 4 and 8.")
        return nn.ModuleList([straight_dual(DUAL_HIDDEN, halvings)])

    def cast_body(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype`` where torch's autocast finds it safe: not in LayerNorm and softmax, for example."""
        self._autocast = dtype
