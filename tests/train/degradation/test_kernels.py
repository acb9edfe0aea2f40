"""Kernels against closed forms of Gaussians, and against MATLAB's reduction."""

from dataclasses import replace

import numpy as np
import pytest

from drc_deploy.errors import UsageError
from drc_deploy.images.resize import bicubic_weights, resize_bicubic
from drc_deploy.train.degradation.kernels import Kernel, centre_of_mass, draw_kernel, with_reduction
from drc_deploy.train.degradation.settings import PUBLISHED, Degradation

WIDE = Degradation(sigma=(0.8, 5.0), kernel_size=63)
"""So large that nothing of a Gaussian lies outside."""


def draws(settings: Degradation, count: int, scale: int = 4) -> list[Kernel]:
    return [draw_kernel(settings, scale, np.random.default_rng((7, number))) for number in range(1, count + 1)]


def deviations(kernel: Kernel) -> tuple[float, float]:
    """Return the standard deviations along the two axes of a kernel, the smaller first."""
    offsets = np.moveaxis(np.indices(kernel.shape), 0, -1) - centre_of_mass(kernel)
    covariance = np.einsum("ij,ijk,ijl->kl", kernel, offsets, offsets)
    low, high = np.sqrt(np.linalg.eigvalsh(covariance))
    return float(low), float(high)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, by in PUBLISHED.items() for scale in by])
def test_kernels_are_weights_that_sum_to_one(name: str, scale: int) -> None:
    settings = PUBLISHED[name][scale]
    for kernel in draws(settings, 20, scale):
        assert kernel.shape == (settings.kernel_size,) * 2
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-12)


def test_one_deviation_is_the_product_of_two_gaussians() -> None:
    (kernel,) = draws(replace(WIDE, sigma=(2.5, 2.5), isotropic=1.0), 1)
    line = np.exp(-(np.arange(-31, 32) ** 2) / (2 * 2.5**2))
    assert np.allclose(kernel, np.outer(line, line) / line.sum() ** 2, atol=1e-15)


def test_moments_are_those_that_were_asked_for() -> None:
    found = np.array([deviations(kernel) for kernel in draws(WIDE, 300)])
    assert found.min() == pytest.approx(0.8, abs=0.1)
    assert found.max() == pytest.approx(5, abs=0.1)
    # Both are drawn alike: their mean is that of the range.
    assert found.mean() == pytest.approx(2.9, abs=4 * 4.2 / np.sqrt(12 * 600))
    variances = np.array([deviations(k) for k in draws(replace(WIDE, sigma=None, variance=(1.0, 25.0)), 300)]) ** 2
    assert variances.mean() == pytest.approx(13, abs=4 * 24 / np.sqrt(12 * 600))
    for kernel in draws(WIDE, 10):
        assert centre_of_mass(kernel) == pytest.approx([31, 31], abs=1e-9)


def test_a_share_of_kernels_is_isotropic() -> None:
    alike = [high - low < 1e-6 for low, high in map(deviations, draws(replace(WIDE, isotropic=0.3), 400))]
    assert np.mean(alike) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 400))


def test_directions_are_all_equally_likely() -> None:
    """The mean of unit vectors at twice their angles vanishes."""
    angles = []
    for kernel in draws(WIDE, 400):
        rows, columns = np.indices(kernel.shape) - 31
        xx, yy, xy = ((kernel * product).sum() for product in (columns**2, rows**2, rows * columns))
        angles.append(np.arctan2(2 * xy, xx - yy))
    assert abs(np.exp(1j * np.array(angles)).mean()) < 4 / np.sqrt(400)


def test_a_disturbance_multiplies_each_weight() -> None:
    plain = Degradation(sigma=(2.0, 2.0), isotropic=1.0)
    (smooth,), (rough,) = draws(plain, 1), draws(replace(plain, disturbance=(0.0, 0.25)), 1)
    factors = rough / smooth
    assert 1.2 < factors.max() / factors.min() <= 1.25
    assert np.unique(factors.round(9)).size == factors.size


@pytest.mark.parametrize("scale", [2, 4])
def test_kernels_of_div2krk_lie_over_the_middle_of_their_lr_pixel(scale: int) -> None:
    for kernel in draws(PUBLISHED["div2krk"][scale], 30, scale):
        # The rule of its generator, for sides that are odd.
        assert centre_of_mass(kernel) == pytest.approx(np.full(2, 21 // 2 + 0.5 * (scale - 1)), abs=1e-6)


@pytest.mark.parametrize(("scale", "low", "size"), [(4, 0.5, 17), (2, 0.5, 9), (8, 0.6, 33), (16, 0.5, 63)])
def test_all_kernels_that_are_accepted_can_be_centred(scale: int, low: float, size: int) -> None:
    settings = Degradation(
        sigma=(low, size / 5), kernel_size=size, disturbance=(-0.99, 10), reduction="subsample", isotropic=0.1
    )
    if size > 4 * scale:
        settings.check_scale(scale)
        for kernel in draws(settings, 40, scale):
            assert centre_of_mass(kernel) == pytest.approx(np.full(2, size // 2 + 0.5 * (scale - 1)), abs=1e-6)
    else:
        with pytest.raises(UsageError, match="to subsample by 16"):
            settings.check_scale(scale)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_reduction_alone_is_matlabs(scale: int) -> None:
    """Its response to one bright column is the weight of that column."""
    weights, begin = bicubic_weights(scale)
    lr = 5
    for number, weight in enumerate(weights):
        image = np.zeros((12 * scale, 12 * scale), np.uint8)
        image[:, scale * lr + begin + number] = 200
        expected = np.floor(max(0, 200 * weight) + 0.5)
        assert resize_bicubic(image, 12, 12, round_between=False)[6, lr] == expected


def test_weights_are_whole_multiples_that_sum_to_one_exactly() -> None:
    for name, by_scale in PUBLISHED.items():
        for scale, settings in by_scale.items():
            kernel, first = with_reduction(draws(settings, 1, scale)[0], settings, scale)
            units = kernel * 2**40
            assert np.array_equal(units, units.round()), name
            assert units.sum() == 2**40
            assert first <= 0


def test_the_same_key_draws_the_same_kernel() -> None:
    one, again, other = (draw_kernel(WIDE, 4, np.random.default_rng(key)) for key in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
