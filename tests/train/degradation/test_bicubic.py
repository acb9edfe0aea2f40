"""Reduction on the device against the NumPy resizer and against published LR files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.train.degradation.bicubic import CENTRE, kernel, margin, mirrored, reduce_bicubic

FACTORS = (2, 4, 8)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


def reduce_window(
    image: NDArray[np.uint8], factor: int, window: tuple[int, int, int, int], device: str = "cpu"
) -> NDArray[np.float32]:
    """Reduce ``window`` (top, left, height, width in reduced pixels) of an (H, W, 3) image by way of a region."""
    top, left, height, width = window
    border = margin(factor)
    rows = mirrored(np.arange(top * factor - border, (top + height) * factor + border), np.array(image.shape[0]))
    columns = mirrored(np.arange(left * factor - border, (left + width) * factor + border), np.array(image.shape[1]))
    region = torch.from_numpy(image[np.ix_(rows, columns)])[None].float().to(device)
    result: NDArray[np.float32] = reduce_bicubic(region, factor)[0].cpu().numpy()
    return result


def test_sums_are_exact_in_float32() -> None:
    """Terms are whole multiples of 2^-16 and partial sums stay below 2^8: 24 bits hold them all."""
    for factor in FACTORS:
        weights = kernel(factor)
        assert (weights * 2**16 == np.round(weights * 2**16)).all()
        assert weights.sum() == 1
        assert CENTRE * np.abs(weights).sum() + 0.5 < 2**8


def check_windows(device: str) -> None:
    random = np.random.default_rng(1)
    for factor in FACTORS:
        for _ in range(20):
            height, width = random.integers(1, 14, size=2) * factor
            # Pixels of 0 and 255 alone overshoot most.
            image = random.choice(np.array([0, 255, 7, 128], np.uint8), size=(height, width, 3))
            whole = resize_bicubic(image, height // factor, width // factor)
            top, left = int(random.integers(height // factor)), int(random.integers(width // factor))
            for window in ((0, 0, *whole.shape[:2]), (top, left, whole.shape[0] - top, 1), (top, left, 1, 1)):
                y, x, h, w = window
                cut = reduce_window(image, factor, window, device)
                np.testing.assert_array_equal(cut, whole[y : y + h, x : x + w])


def test_windows_equal_the_resizer_on_the_whole_image() -> None:
    check_windows("cpu")


@needs_gpu
@pytest.mark.gpu
def test_windows_equal_the_resizer_on_a_gpu_that_may_use_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    check_windows("cuda")


def test_mixed_precision_around_it_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(reduce_window(image, 4, (0, 0, 8, 8)), resize_bicubic(image, 8, 8))


@pytest.mark.parametrize("name", ["Set5", "Set14"])
@pytest.mark.parametrize(
    ("lr_folder", "frame"),
    [("LRx4_sym", 0), ("LRx4", 2)],  # older MATLAB repeated the edge pixel: the outermost two pixels differ
)
def test_published_lr_files_are_reproduced(benchmark_data: Path, name: str, lr_folder: str, frame: int) -> None:
    for path in sorted((benchmark_data / name / "HR").glob("*.png")):
        hr, lr = read_rgb(path), read_rgb(benchmark_data / name / lr_folder / path.name)
        difference = np.abs(reduce_window(hr, 4, (0, 0, *lr.shape[:2])) - lr)
        inner = difference[frame : len(lr) - frame, frame : lr.shape[1] - frame]
        assert inner.max() == 0, path.name
        assert difference.max() <= 10, path.name
