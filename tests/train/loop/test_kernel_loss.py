"""The reference of kernels, against kernels that are known."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from drc_deploy.images.resize import resize_bicubic
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.loop.kernel_loss import LastKernel, kernel_loss, reduced, reference_kernel
from drc_deploy.train.loop.losses import dual_regression_losses
from tests.train.data.photograph_files import noise


def gaussian(side: int, sigma: float, shift: float = 0.0) -> torch.Tensor:
    line = torch.exp(-((torch.arange(side) - side // 2 - shift) ** 2) / (2 * sigma**2))
    kernel = line[:, None] * torch.exp(-((torch.arange(side) - side // 2) ** 2) / (2 * sigma**2))
    return (kernel / kernel.sum()).view(1, 1, side, side)


def blurred(images: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolve periodically."""
    half = kernel.shape[-1] // 2
    around = F.pad(images, (half,) * 4, mode="circular")
    return F.conv2d(around, kernel.flip((2, 3)).expand(3, 1, -1, -1), groups=3)


@pytest.mark.parametrize("scale", [2, 4])
def test_clean_images_are_those_of_the_reduction(scale: int) -> None:
    hr = noise(1, 40, 48)
    images = torch.from_numpy(hr).permute(2, 0, 1)[None].float()
    expected = resize_bicubic(hr, 40 // scale, 48 // scale)
    assert np.array_equal(reduced(images, scale)[0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_blur_is_found_in_the_images(shift: float) -> None:
    """What remains is above the background: the kernel less a part of its 41st largest weight."""
    clean, kernel = torch.from_numpy(noise(2, 64, 80)).permute(2, 0, 1)[None].float(), gaussian(31, 1.5, shift)
    found = reference_kernel(blurred(clean, kernel), clean, 31)
    background = 0.75 * kernel.flatten().sort(descending=True).values[40]
    expected = (kernel - background).clamp(min=0)
    assert torch.allclose(found, expected / expected.sum(), atol=2e-4)
    assert divmod(int(found.argmax()), 31) == (15 + int(shift), 15)


def test_images_smaller_than_the_kernel_have_one() -> None:
    clean, kernel = torch.from_numpy(noise(3, 16, 20)).permute(2, 0, 1)[None].float(), gaussian(7, 1.0)
    found = reference_kernel(blurred(clean, kernel), clean, 31)
    assert found.shape == (1, 1, 31, 31)
    assert int(found.argmax()) == 15 * 31 + 15
    assert float(found[..., 8:23, 6:25].sum()) == pytest.approx(1)


@pytest.mark.parametrize("grey", [0.0, 97.0, 255.0])
def test_flat_images_have_all_weight_in_the_middle(grey: float) -> None:
    flat = torch.full((2, 3, 32, 32), grey)
    found = reference_kernel(flat, flat, 31)
    assert torch.isfinite(found).all()
    assert torch.equal(found.flatten(1).argmax(dim=1), torch.tensor([480, 480]))
    loss = kernel_loss(found, flat, torch.full((2, 3, 128, 128), grey))
    assert torch.isfinite(loss)


def test_the_loss_is_the_error_in_grey_levels_and_part_of_the_whole() -> None:
    hr = torch.from_numpy(noise(4, 128, 128)).permute(2, 0, 1)[None].float()
    lr = reduced(hr, 4)
    reference = reference_kernel(lr, lr, 31)
    assert float(kernel_loss(reference, lr, hr)) == 0
    other = torch.full_like(reference, 1 / 961)
    error = float((other - reference).abs().mean() * 255)
    assert float(kernel_loss(other, lr, hr)) == pytest.approx(error)
    losses = dual_regression_losses([hr + 3], [lr, hr], torch.nn.ModuleList(), other)
    assert float(losses.total(0.1)) == pytest.approx(3 + error)


def test_kernels_are_kept_while_the_block_runs_and_taken_once() -> None:
    network, image = build_network(ModelSpec("dcls_xs", 4)), torch.rand(1, 3, 8, 8) * 255
    with torch.no_grad(), LastKernel(network) as kernels:
        network(image)
        kernel = kernels.take()
        assert kernel is not None
        assert torch.equal(kernel, network.get_submodule("Estimator")(image / 255))
        assert kernels.take() is not None
        assert kernels.take() is None
    network(image)
    assert kernels.take() is None
    with LastKernel(build_network(ModelSpec("drn_xs", 4))) as kernels:
        assert kernels.take() is None
