import numpy as np
import pytest

from drc_deploy.bench.run.other_programs import compare, comparison_inputs
from drc_deploy.errors import VerificationError
from drc_deploy.metrics import UInt8Image


def image(value: int = 100, shape: tuple[int, ...] = (40, 40, 3)) -> UInt8Image:
    return np.full(shape, value, np.uint8)


def test_equal_images_are_equal() -> None:
    parity = compare([image(), image(7)], [image(), image(7)])
    assert (parity.psnr_db, parity.max_levels) == (None, 0)


def test_one_sample_in_ten_off_by_one_is_58_db() -> None:
    theirs = image()
    theirs.reshape(-1)[::10] += 1
    parity = compare([image()], [theirs])
    assert parity.psnr_db == pytest.approx(58.13, abs=0.005)  # 10 log10(255^2 / 0.1)
    assert parity.max_levels == 1


def test_one_wrong_image_among_right_ones_is_refused() -> None:
    with pytest.raises(VerificationError, match="needed are 50, largest difference 3 of 255"):
        compare([image(), image(50)], [image(), image(53)])


def test_another_size_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"\(40, 44, 3\) where our engine gives \(40, 40, 3\)"):
        compare([image()], [image(shape=(40, 44, 3))])


def test_outputs_are_compared_at_two_sizes() -> None:
    shapes = [part.shape for part in comparison_inputs(image(shape=(200, 300, 3)))]
    assert shapes == [(96, 96, 3), (40, 56, 3)]
