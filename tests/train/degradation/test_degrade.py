"""LR images against SciPy, MATLAB's reduction and sums of whole numbers; the same on every device."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from drc_deploy.errors import ImageError
from drc_deploy.images.resize import bicubic_weights, resize_bicubic
from drc_deploy.train.degradation.degrade import STRIP_ROWS, RandomValues, border_of, degrade, degrade_image
from drc_deploy.train.degradation.kernels import with_reduction
from drc_deploy.train.degradation.settings import PUBLISHED, Degradation
from tests.train.data.photograph_files import noise

NOTHING = Degradation()
CASES = [(name, scale) for name, by_scale in PUBLISHED.items() for scale in by_scale]


def blurred(hr: NDArray[np.uint8], values: RandomValues) -> NDArray[np.float64]:
    """Blur by SciPy; its "reflect" repeats the edge pixels."""
    assert values.kernel is not None
    channels = [ndimage.correlate(hr[:, :, c].astype(float), values.kernel, mode="reflect") for c in range(3)]
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_without_a_blur_the_image_is_matlabs(scale: int) -> None:
    hr = noise(1, 9 * scale, 12 * scale)
    lr, _ = degrade_image(hr, NOTHING, scale, (1,))
    assert np.array_equal(lr, resize_bicubic(hr, 9, 12, round_between=False))


@pytest.mark.parametrize("scale", [2, 4])
def test_subsampling_is_scipys_correlation_and_every_nth_pixel(scale: int) -> None:
    hr = noise(2, 48, 64)
    lr, values = degrade_image(hr, PUBLISHED["div2krk"][scale], scale, (1,))
    assert np.array_equal(lr, np.floor(blurred(hr, values)[::scale, ::scale] + 0.5))


@pytest.mark.parametrize(("name", "scale"), [case for case in CASES if case[0] != "div2krk"])
def test_a_blur_and_a_reduction_are_one_after_the_other(name: str, scale: int) -> None:
    hr = noise(3, 30 * scale, 32 * scale)
    lr, values = degrade_image(hr, PUBLISHED[name][scale], scale, (1,))
    soft, (weights, begin) = blurred(hr, values), bicubic_weights(scale)
    for row, column in ((12, 12), (15, 17), (17, 14)):  # where the border does not matter
        top, left = scale * row + begin, scale * column + begin
        region = soft[top : top + len(weights), left : left + len(weights)]
        expected = np.einsum("ijc,i,j->c", region, weights, weights)
        assert np.abs(lr[row, column] - expected.clip(0, 255)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_sums_are_those_of_whole_numbers(name: str, scale: int) -> None:
    """Then no order of adding, and no device, makes another image."""
    settings, hr = PUBLISHED[name][scale], noise(4, 64, 64)
    lr, values = degrade_image(hr, settings, scale, (5,))
    kernel, first = with_reduction(values.kernel, settings, scale)
    units = [[int(unit) for unit in row] for row in kernel * 2**40]
    border = border_of(settings, scale)
    bordered = np.pad(hr, ((border, border), (border, border), (0, 0)), "symmetric")
    for row, column in ((0, 0), (7, 9), (64 // scale - 1, 3)):
        top, left = border + first + scale * row, border + first + scale * column
        total = sum(
            unit * int(bordered[top + i, left + j, 1]) for i, line in enumerate(units) for j, unit in enumerate(line)
        )
        assert lr[row, column, 1] == min(255, max(0, (2 * total + 2**40) // 2**41))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.gpu
def test_a_gpu_makes_the_same_images() -> None:
    for name, scale in CASES:
        settings = replace(PUBLISHED[name][scale], noise=(1.0, 20.0))
        side = 10 * scale + 2 * border_of(settings, scale)
        regions = torch.from_numpy(np.stack([noise(seed, side, side) for seed in range(4)])).float()
        values = [RandomValues.of(settings, scale, (1, seed), 10, 10) for seed in range(1, 5)]
        on_gpu = degrade(regions.cuda(), values, settings, scale).cpu()
        assert torch.equal(on_gpu, degrade(regions, values, settings, scale))


def test_noise_has_the_deviation_that_was_drawn() -> None:
    flat = np.full((256, 256, 3), 128, np.uint8)
    lr, values = degrade_image(flat, replace(NOTHING, noise=(8.0, 12.0)), 2, (1,))
    assert 8 <= values.deviation <= 12
    # Rounding adds a twelfth to the variance.
    assert lr.astype(float).std() == pytest.approx(np.sqrt(values.deviation**2 + 1 / 12), rel=0.02)
    assert lr.mean() == pytest.approx(128, abs=4 * values.deviation / np.sqrt(lr.size))
    assert abs(np.corrcoef(lr[:, :, 0].ravel(), lr[:, :, 1].ravel())[0, 1]) < 0.04


def test_jpeg_comes_last_and_is_what_its_decoder_makes() -> None:
    hr = cv2.GaussianBlur(noise(6, 128, 128), (9, 9), 3).astype(np.uint8)
    noisy = replace(NOTHING, noise=(5.0, 5.0))
    clean, _ = degrade_image(hr, noisy, 2, (1,))
    lr, values = degrade_image(hr, replace(noisy, jpeg=(30, 60)), 2, (1,))
    assert values.jpeg is not None
    assert 30 <= values.jpeg <= 60
    encoded = cv2.imencode(".jpg", clean[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, values.jpeg])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.array_equal(lr, decoded[:, :, ::-1])


def test_images_of_a_batch_are_those_made_alone() -> None:
    settings = replace(PUBLISHED["dcls"][4], noise=(0.0, 10.0), jpeg=(50, 90))
    side = 32 + 2 * border_of(settings, 4)
    regions = torch.from_numpy(np.stack([noise(seed, side, side + 8) for seed in range(3)])).float()
    values = [RandomValues.of(settings, 4, (2, seed), 8, 10) for seed in (1, 2, 3)]
    batch = degrade(regions, values, settings, 4)
    assert batch.shape == (3, 8, 10, 3)
    for number, one in enumerate(values):
        assert torch.equal(batch[number], degrade(regions[number : number + 1], [one], settings, 4)[0])
    assert not torch.equal(batch[0], degrade(regions[:1], values[1:2], settings, 4)[0])


def test_strips_of_a_large_image_fit_together() -> None:
    """Rows in strips are those of the whole, noise and JPEG included."""
    hr, settings = noise(7, 300, 64), replace(PUBLISHED["dcls"][4], noise=(5.0, 5.0), jpeg=(50, 50))
    lr, values = degrade_image(hr, settings, 4, (1,))
    assert lr.shape[0] > 2 * STRIP_ROWS
    border = border_of(settings, 4)
    bordered = np.pad(hr, ((border, border), (border, border), (0, 0)), "symmetric")
    (whole,) = degrade(torch.from_numpy(bordered[None]).float(), [values], settings, 4)
    assert np.array_equal(lr, whole.numpy())


def test_an_image_that_is_smaller_than_the_kernel_is_refused() -> None:
    with pytest.raises(ImageError, match="40x28 pixels is smaller than the blur kernel, which has 31"):
        degrade_image(noise(1, 28, 40), PUBLISHED["dcls"][4], 4, (1,))
