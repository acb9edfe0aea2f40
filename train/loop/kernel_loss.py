"""The loss by which a blind network learns to estimate blur kernels (DCLS, CVPR 2022)."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.degradation.bicubic import margin, reduce_bicubic

WHITE = 255.0
NOTHING = 1e-8
"""Share of the mean energy below which a frequency says nothing about the blur. The published 1e-20 would overflow."""
RANK = 41
SHARE = 0.75
"""This share of the weight of this rank is background (authors' code)."""


class LastKernel(AbstractContextManager["LastKernel"]):
    """The kernels that a network estimates in its passes, until the block ends."""

    def __init__(self, network: SRNetwork) -> None:
        self._kernel: Tensor | None = None
        self._hook = None
        if isinstance(network, BlindNetwork):
            self._hook = network.get_submodule(network.kernel_module).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._kernel = output

    def take(self) -> Tensor | None:
        """Return those of the latest pass, (N, 1, k, k), and forget them; None where nothing was estimated."""
        kernel, self._kernel = self._kernel, None
        return kernel

    def __exit__(self, *_error: object) -> None:
        if self._hook:
            self._hook.remove()


def kernel_loss(kernel: Tensor, lr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean absolute error of estimated kernels, in grey levels: a scalar, as images have it.

    Args:
        kernel: (N, 1, k, k), as ``LastKernel`` has it.
        lr: (N, 3, h, w) float32 in [0, 255].
        hr: (N, 3, scale*h, scale*w) float32 in [0, 255], what was blurred and reduced.
    """
    scale = hr.shape[-1] // lr.shape[-1]
    with torch.no_grad():
        reference = reference_kernel(lr, reduced(hr, scale), kernel.shape[-1])
    return F.l1_loss(kernel, reference) * WHITE


def reduced(hr: Tensor, scale: int) -> Tensor:
    """Reduce (N, 3, scale*h, scale*w) by bicubic; beyond the border images are mirrored."""
    border = margin(scale)
    bordered = hr
    for axis in (2, 3):
        side = hr.shape[axis]
        # On the device: a CUDA graph, which training records, must not copy from the host.
        places = torch.arange(-border, side + border, device=hr.device) % (2 * side)
        bordered = bordered.index_select(axis, torch.minimum(places, 2 * side - 1 - places))
    return reduce_bicubic(bordered.permute(0, 2, 3, 1).contiguous(), scale).permute(0, 3, 1, 2)


def reference_kernel(blurred: Tensor, clean: Tensor, side: int) -> Tensor:
    """Return the kernels that turn clean images into blurred ones, as far as the images show it.

    The ratio of their spectra in each channel, the mean over channels where their signs agree, without its background
    (section 3.1 of DCLS, and its code).

    Args:
        blurred: (N, 3, h, w).
        clean: (N, 3, h, w).
        side: Of the kernels, odd.

    Returns:
        (N, 1, side, side) float32 of sum 1, not negative. Of images without any detail: all weight in the middle.
    """
    of_clean = torch.fft.rfft2(clean.float())
    energy = of_clean.abs().square()
    floor = NOTHING * energy.mean(dim=(2, 3), keepdim=True)
    ratio = torch.fft.rfft2(blurred.float()) * of_clean.conj() / (energy + floor).clamp_min(NOTHING)
    colours = _middle(torch.fft.irfft2(ratio, s=clean.shape[-2:]), side)
    kernel = colours.mean(dim=1, keepdim=True) * (colours.prod(dim=1, keepdim=True) > 0)
    background = SHARE * kernel.flatten(1).topk(min(RANK, side**2)).values[:, -1]
    kernel = (kernel - background[:, None, None, None]).clamp(0, 1)
    kernel[:, :, side // 2, side // 2] += NOTHING
    return kernel / kernel.sum(dim=(2, 3), keepdim=True)


def _middle(kernels: Tensor, side: int) -> Tensor:
    """Return (N, C, side, side) around the first pixel of periodic images; zeros where they are smaller."""
    height, width = kernels.shape[-2:]
    rows, columns = min(side, (height - 1) // 2 * 2 + 1), min(side, (width - 1) // 2 * 2 + 1)
    moved = kernels.roll((rows // 2, columns // 2), dims=(2, 3))[:, :, :rows, :columns]
    down, right = (side - rows) // 2, (side - columns) // 2
    return F.pad(moved, (right, right, down, down))
