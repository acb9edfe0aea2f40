"""The resizer against the published LR files and against properties of the kernel."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.images.resize import resize_bicubic


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_published_lr_files_are_reproduced_exactly(benchmark_data: Path, name: str) -> None:
    for path in sorted((benchmark_data / name / "HR").glob("*.png")):
        hr = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        lr = cv2.imread(str(benchmark_data / name / "LRx4_sym" / path.name), cv2.IMREAD_UNCHANGED)
        assert hr is not None
        assert lr is not None
        np.testing.assert_array_equal(resize_bicubic(hr.astype(np.uint8), *lr.shape[:2]), lr, err_msg=path.name)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_a_flat_image_stays_flat(h: int, w: int, height: int, width: int, value: int) -> None:
    flat = np.full((h, w, 3), value, np.uint8)
    assert (resize_bicubic(flat, height, width) == value).all()


def test_same_size_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    np.testing.assert_array_equal(resize_bicubic(image, 9, 7), image)


def test_doubling_interpolates_with_keys_weights() -> None:
    """Half a pixel off centre, the cubic of a = -0.5 weighs its four neighbours as below."""
    row = np.array([[10, 20, 200, 100, 50, 60]], np.uint8)
    weights = np.array([-0.0703125, 0.8671875, 0.2265625, -0.0234375])  # distances 1.25, 0.25, 0.75, 1.75
    expected = np.floor(weights @ row[0, 1:5] + 0.5)
    assert resize_bicubic(row, 1, 12)[0, 5] == expected
