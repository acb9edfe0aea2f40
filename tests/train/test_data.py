"""Patches are aligned across scales, the same for the same seed, and bad files are left out by name."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from drc_deploy.errors import TrainingError
from drc_deploy.resize import resize_bicubic
from drc_deploy.train.data import PatchSampler, Photographs, load_photographs


def coordinate_image(height: int, width: int) -> np.ndarray:
    """An image whose red tells the row and whose green tells the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def test_patches_of_all_scales_show_the_same_place() -> None:
    pyramid = [coordinate_image(20 * k, 30 * k) // k for k in (1, 2, 4)]  # every level in LR coordinates
    sampler = PatchSampler([pyramid], patch=6, batch=8, seed=3)
    coarse, middle, fine = sampler.sample(0)
    assert [x.shape for x in (coarse, middle, fine)] == [(8, 3, 6 * k, 6 * k) for k in (1, 2, 4)]
    for finer, k in ((middle, 2), (fine, 4)):
        torch.testing.assert_close(finer[:, :, ::k, ::k], coarse)


def test_the_same_step_gives_the_same_patches_and_another_step_others(photographs: Photographs) -> None:
    first, again = (PatchSampler(photographs.pyramids, patch=8, batch=4, seed=1) for _ in range(2))
    assert torch.equal(first.sample(7)[2], again.sample(7)[2])
    assert not torch.equal(first.sample(7)[2], first.sample(8)[2])


def test_bad_and_small_files_among_good_ones_are_listed(tmp_path: Path, photographs: Photographs) -> None:
    good = photographs.pyramids[0][2]
    cv2.imwrite(str(tmp_path / "good.png"), good)
    cv2.imwrite(str(tmp_path / "grey.png"), good[:, :, 0])
    cv2.imwrite(str(tmp_path / "deep.png"), good.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "small.png"), good[:20, :20])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    loaded = load_photographs(tmp_path, 4, 8)
    assert len(loaded.pyramids) == 3
    assert sorted("broken" in line or "small" in line for line in loaded.skipped) == [True, True]
    assert [level.shape for level in loaded.pyramids[0]] == [(24, 24, 3), (48, 48, 3), (96, 96, 3)]
    np.testing.assert_array_equal(loaded.pyramids[0][0], resize_bicubic(loaded.pyramids[0][2], 24, 24))


def test_a_folder_without_usable_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(TrainingError, match="no image that training can use"):
        load_photographs(tmp_path, 4, 8)
