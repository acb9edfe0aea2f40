import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy import metrics

RANDOM = np.random.default_rng(0)


def grey(value: int, size: int = 24) -> metrics.UInt8Image:
    return np.full((size, size, 3), value, np.uint8)


def test_luma_of_black_white_and_primaries_is_bt601() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0]]], np.uint8)
    assert metrics.luma(colours)[0] == pytest.approx([16.0, 235.0, 81.481, 144.553])


@given(st.integers(0, 255), st.integers(0, 255))
def test_psnr_of_two_flat_greys_follows_the_formula(first: int, second: int) -> None:
    scores = metrics.score(grey(first), grey(second), border=4)
    if first == second:
        assert scores.psnr_y is None
    else:
        difference = abs(first - second) * 219 / 255
        assert scores.psnr_y == pytest.approx(20 * np.log10(255 / difference))


def test_ssim_of_two_flat_greys_is_the_luminance_term_alone() -> None:
    x, y = 16 + 40 * 219 / 255, 16 + 90 * 219 / 255
    expected = (2 * x * y + 6.5025) / (x * x + y * y + 6.5025)
    assert metrics.score(grey(40), grey(90), border=4).ssim_y == pytest.approx(expected)


def test_identical_images_score_infinite_psnr_and_one() -> None:
    image = RANDOM.integers(0, 256, (30, 40, 3), np.uint8)
    scores = metrics.score(image, image, border=4)
    assert scores.psnr_y is None
    assert scores.ssim_y == pytest.approx(1.0)


def test_pixels_in_the_border_do_not_count() -> None:
    image = RANDOM.integers(0, 256, (32, 32, 3), np.uint8)
    other = image.copy()
    other[:4], other[-4:], other[:, :4], other[:, -4:] = 0, 0, 0, 0
    assert metrics.score(image, other, border=4).psnr_y is None
    assert metrics.score(image, other, border=3).psnr_y is not None


def test_ssim_agrees_with_scikit_image() -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    first = RANDOM.integers(0, 256, (40, 50)).astype(np.float64)
    second = np.clip(first + RANDOM.normal(0, 25, first.shape), 0, 255)
    _, full = structural_similarity(
        first,
        second,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert metrics.ssim(first, second) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "sentence"),
    [(24, 25, "sizes differ"), (18, 24, "sizes differ"), (18, 18, "too small")],
)
def test_images_that_cannot_be_compared_are_refused(height: int, width: int, sentence: str) -> None:
    reference = grey(0, 18 if sentence == "too small" else 24)
    with pytest.raises(ValueError, match=sentence):
        metrics.score(reference, np.zeros((height, width, 3), np.uint8), border=4)


def test_a_mean_with_an_infinite_psnr_is_infinite() -> None:
    assert metrics.mean_psnr([30.0, 20.0]) == 25.0
    assert metrics.mean_psnr([30.0, None]) is None


def test_the_error_of_a_kernel_is_the_share_that_lies_elsewhere() -> None:
    truth = np.array([[0.5, 0.5], [0, 0]], np.float32)
    assert metrics.kernel_error(truth, truth) == 0
    assert metrics.kernel_error(truth[::-1], truth) == 1
    assert metrics.kernel_error(np.full((2, 2), 0.25, np.float32), truth) == 0.5
