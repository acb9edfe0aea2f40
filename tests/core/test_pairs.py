from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drc_deploy.bench.measure.quality import score_pair, summarise, upscale_bicubic, upscaled_pairs
from drc_deploy.errors import ImageError, InputError
from drc_deploy.locate import sample_images
from drc_deploy.pairs import Pair, Photograph, find_pairs

RANDOM = np.random.default_rng(3)


def write(path: Path, *shape: int) -> NDArray[np.uint8]:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RANDOM.integers(0, 256, shape, np.uint8)
    assert cv2.imwrite(str(path), image[..., ::-1] if len(shape) == 3 else image)
    return image


def test_hr_is_cropped_at_the_bottom_and_right_to_the_scale(tmp_path: Path) -> None:
    hr = write(tmp_path / "HR/a.png", 43, 82, 3)
    write(tmp_path / "LRx4/a.png", 10, 20, 3)
    (source,) = find_pairs(tmp_path, "LRx4", 4)
    np.testing.assert_array_equal(source.load(4).hr, hr[:40, :80])


def test_a_grey_image_becomes_rgb_with_equal_channels(tmp_path: Path) -> None:
    hr = write(tmp_path / "HR/a.png", 40, 40)
    write(tmp_path / "LRx4/a.png", 10, 10)
    pair = find_pairs(tmp_path, "LRx4", 4)[0].load(4)
    np.testing.assert_array_equal(pair.hr, np.stack([hr, hr, hr], axis=2))


def test_the_lr_file_may_add_the_scale_to_its_name(tmp_path: Path) -> None:
    write(tmp_path / "HR/a.png", 16, 16, 3)
    write(tmp_path / "LR_bicubic/X4/ax4.png", 4, 4, 3)
    assert [source.name for source in find_pairs(tmp_path, "LR_bicubic/X4", 4)] == ["a"]


@pytest.mark.parametrize("shape", [(10, 21, 3), (5, 10, 3), (11, 20, 3), (9, 20, 3)])
def test_sizes_that_do_not_belong_together_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write(tmp_path / "HR/a.png", 40, 80, 3)
    write(tmp_path / "LRx4/a.png", *shape)
    with pytest.raises(ImageError, match="not 4 times as large"):
        find_pairs(tmp_path, "LRx4", 4)[0].load(4)


def test_images_without_a_partner_are_named(tmp_path: Path) -> None:
    for name in ("HR/a.png", "HR/b.png", "LRx4/b.png", "LRx4/c.png"):
        write(tmp_path / name, 8, 8, 3)
    with pytest.raises(InputError, match=r"2 of the images .* have no partner: a, c\."):
        find_pairs(tmp_path, "LRx4", 4)


@pytest.mark.parametrize("second", ["HR/a.bmp", "LRx4/a.jpg", "LRx4/bx4.png"])
def test_two_files_of_one_image_are_refused_instead_of_one_left_out(tmp_path: Path, second: str) -> None:
    for name in ("HR/a.png", "HR/b.png", "LRx4/a.png", "LRx4/b.png"):
        write(tmp_path / name, 8, 8, 3)
    write(tmp_path / second, 8, 8, 3)
    with pytest.raises(InputError, match="are both the image"):
        find_pairs(tmp_path, "LRx4", 4)


def test_a_missing_folder_is_named_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "HR/a.png", 8, 8, 3)
    with pytest.raises(InputError, match=r"there is no folder .*LRx4") as caught:
        find_pairs(tmp_path, "LRx4", 4)
    assert "it holds HR" in caught.value.hint


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "HR").mkdir()
    (tmp_path / "HR/notes.txt").write_text("no image")
    with pytest.raises(InputError, match="holds no images"):
        find_pairs(tmp_path, "LRx4", 4)


def test_a_photograph_gives_hr_of_a_whole_number_of_lr_pixels() -> None:
    pair = Photograph(sample_images()[1]).load(8)
    assert pair.hr.shape == (pair.lr.shape[0] * 8, pair.lr.shape[1] * 8, 3)
    assert abs(float(pair.hr.mean()) - float(pair.lr.mean())) < 1


def test_an_image_too_small_to_score_is_named() -> None:
    pair = Pair("tiny", np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ImageError, match=r"tiny cannot be scored: .*19 pixels"):
        score_pair(pair, pair.hr, 4)


@pytest.mark.parametrize(
    ("name", "scale", "psnr"),
    [("Set5", 4, 28.43), ("Set14", 4, 26.09), ("BSD100", 4, 25.96), ("Set5", 8, 24.40), ("Set14", 8, 23.19)],
)
def test_bicubic_scores_what_is_published(benchmark_data: Path, name: str, scale: int, psnr: float) -> None:
    sources = find_pairs(benchmark_data / name, f"LRx{scale}", scale)
    results = upscaled_pairs(upscale_bicubic(scale), sources, scale)
    quality = summarise([score_pair(pair, result, scale) for pair, result in results])
    assert quality.psnr_y == pytest.approx(psnr, abs=0.005)
