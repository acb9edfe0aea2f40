"""What a network in training is to compute: the photographs, or what an unpruned network makes of them.

Networks that were trained on real degradations, or against a discriminator, make other images than the photographs
are. Training on photographs would undo their look.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from drc_deploy.errors import UsageError
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.data.patches import PatchSampler, PatchSource
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.device import memory_checked, place, place_images
from drc_deploy.train.loop.run_options import TargetImages

TRIAL_BATCH = 16


class FollowedPatches:
    """Patches whose targets are what a network makes of the LR image, instead of photographs.

    Raises:
        UsageError: the network estimates blur kernels: its images do not show how photographs were blurred.
    """

    def __init__(self, patches: PatchSource, network: SRNetwork) -> None:
        if isinstance(network, BlindNetwork):
            raise UsageError(
                f"a {network.spec.name} learns the blur of photographs, which its own images do not show.",
                "Give --target-images photographs.",
            )
        self._patches = patches
        self._network = place(network).eval().requires_grad_(False)

    def sample(self, step: int) -> list[Tensor]:
        """Return the batch of one step; see ``PatchSampler.sample``. The LR image stays."""
        images = place_images(self._patches.sample(step))
        with torch.no_grad():
            outputs = self._network(images[0])
        # A network with an image at every scale makes the coarsest, too; the LR image itself is better.
        made = outputs[1:] or outputs
        return [*images[: len(images) - len(made)], *made]

    def close(self) -> None:
        """End what runs in the background."""
        self._patches.close()


def suitable_targets(network: SRNetwork, photographs: Photographs, patch: int) -> tuple[TargetImages, float, float]:
    """Find out what a network was trained for: photographs, if it comes closer to them than bicubic interpolation.

    Args:
        network: Unpruned.
        photographs: All with room for a patch.
        patch: Side of a patch in LR pixels.

    Returns:
        The targets, and the PSNR in dB over all channels of patches: the network's and that of bicubic interpolation.
    """
    sampler = PatchSampler(photographs, scale=network.scale, patch=patch, batch=TRIAL_BATCH, seed=1)
    try:
        images = place_images(sampler.sample(0))
    finally:
        sampler.close()
    with memory_checked(), torch.no_grad():
        sr = place(network).eval().upscale(images[0])
        bicubic = F.interpolate(images[0], scale_factor=network.scale, mode="bicubic", align_corners=False)
    psnr, of_bicubic = _psnr(sr, images[-1]), _psnr(bicubic, images[-1])
    return ("photographs" if psnr > of_bicubic else "self"), psnr, of_bicubic


def _psnr(image: Tensor, target: Tensor) -> float:
    error = F.mse_loss(image.clamp(0, 255), target).clamp(min=1e-9)
    return float(10 * torch.log10(255**2 / error))
