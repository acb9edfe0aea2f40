"""Blur kernels in LR pixels against closed forms and against photographs; files that hold none."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from drc_deploy.errors import DrcDeployError, InputError, UsageError
from drc_deploy.images.blur import Blur, find_blurs, kernel_picture, kernel_widths, read_blur
from drc_deploy.locate import sample_images
from drc_deploy.pairs import Photograph
from drc_deploy.train.degradation.degrade import degrade_image
from drc_deploy.train.degradation.kernels import centre_of_mass
from drc_deploy.train.degradation.settings import PUBLISHED

SIDE = 31


def gaussian(sigma: float, side: int = 41) -> np.ndarray:
    squares = (np.arange(side) - side // 2) ** 2
    row = np.exp(-squares / (2 * sigma**2))
    return np.asarray(np.outer(row, row) / row.sum() ** 2)


def point(side: int) -> np.ndarray:
    kernel = np.zeros((side, side))
    kernel[side // 2, side // 2] = 1
    return kernel


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_no_blur_is_a_point(scale: int) -> None:
    found = Blur(point(5), scale, "bicubic").as_lr_kernel(SIDE)
    assert np.abs(found - point(SIDE)).max() < 1e-6


@pytest.mark.parametrize(("scale", "sigma"), [(2, 3.0), (4, 5.0)])
def test_a_wide_gaussian_is_one_in_lr_pixels(scale: int, sigma: float) -> None:
    """A blur that leaves nothing to alias commutes with the reduction: its width falls by the scale."""
    found = Blur(gaussian(sigma), scale, "bicubic").as_lr_kernel(SIDE)
    assert found.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs(found - gaussian(sigma / scale, SIDE)).sum() < 0.02


@pytest.mark.parametrize("name", ["dcls", "div2krk"])
def test_it_makes_the_blurred_image_of_the_reduced_one(name: str) -> None:
    """SciPy's convolution of a bicubic LR image with it is what the degradation made of the photograph."""
    pair = Photograph(sample_images()[0]).load(4)
    settings = PUBLISHED[name][4]
    gains = []
    for seed in range(6):
        degraded, values = degrade_image(pair.hr, settings, 4, (seed,))
        assert values.kernel is not None
        kernel = Blur(values.kernel, 4, settings.reduction).as_lr_kernel(SIDE).astype(float)
        assert np.abs(centre_of_mass(kernel) - SIDE // 2).max() < 0.05
        blurred, turned = (
            ndimage.convolve(pair.lr.astype(float), each[:, :, None], mode="reflect") for each in (kernel, kernel[::-1])
        )
        errors = [np.square(image - degraded.astype(float)).mean() for image in (blurred, turned, pair.lr)]
        gains.append([errors[1] / errors[0], errors[2] / errors[0]])
    mirrored, without = np.mean(gains, axis=0)
    assert mirrored > 2
    assert without > 10


@pytest.mark.parametrize(("long", "short", "degrees"), [(3, 1, 30), (2.5, 1.5, -60), (4, 2, 0), (3, 2, 89)])
def test_widths_are_those_of_the_gaussian(long: float, short: float, degrees: float) -> None:
    rows, columns = np.indices((61, 61)) - 30
    angle = np.radians(degrees)
    along = columns * np.cos(angle) - rows * np.sin(angle)  # rows go downwards
    across = columns * np.sin(angle) + rows * np.cos(angle)
    kernel = np.exp(-((along / long) ** 2 + (across / short) ** 2) / 2).astype(np.float32)
    assert kernel_widths(np.roll(kernel, (2, -3), (0, 1))) == pytest.approx((long, short, degrees), rel=1e-3, abs=1e-3)


def test_the_picture_of_a_kernel_is_its_middle() -> None:
    kernel = point(31).astype(np.float32)
    kernel[15, 18] = 0.25
    picture = kernel_picture(kernel)
    cell = len(picture) // 17
    assert picture.shape == (17 * cell, 17 * cell, 3)
    middle = 8 * cell
    assert (picture[middle : middle + cell, middle : middle + cell] == 255).all()
    assert (picture[middle, middle + 3 * cell] == 127).all()
    assert (picture > 0).sum() == 2 * 3 * cell**2
    assert kernel_picture(np.zeros((5, 5), np.float32)).max() == 0


def test_a_file_of_a_kernel_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", kernel=gaussian(1.5, 9), scale=4, reduction="subsample")
    blur = read_blur(tmp_path / "k.npz")
    assert (blur.scale, blur.reduction, blur.lr_side) == (4, "subsample", 3)
    assert np.abs(blur.kernel - gaussian(1.5, 9)).max() < 1e-12


@pytest.mark.parametrize(
    ("kernel", "scale", "reduction", "message"),
    [
        (gaussian(1, 5) - 0.01, 4, "bicubic", "negative weights"),
        (2 * gaussian(1, 5), 4, "bicubic", "the sum 2, not 1"),
        (np.zeros((5, 5)), 4, "bicubic", "the sum 0, not 1"),
        (np.full((5, 5), np.nan), 4, "bicubic", "no numbers"),
        (gaussian(1, 4), 4, "bicubic", "odd side"),
        (np.ones((3, 5)) / 15, 4, "bicubic", "odd side"),
        (np.ones(9) / 9, 4, "bicubic", "odd side"),
        (np.ones((129, 129)) / 129**2, 4, "bicubic", "side of 129"),
        (gaussian(1, 5), 4.7, "bicubic", "scale of 4.7"),
        (gaussian(1, 5), -4, "bicubic", "scale of -4"),
        (gaussian(1, 5), 0, "bicubic", "scale of 0"),
        (gaussian(1, 5), 4, "lanczos", "'lanczos'"),
    ],
)
def test_what_is_no_blur_is_refused(
    tmp_path: Path, kernel: np.ndarray, scale: float, reduction: str, message: str
) -> None:
    np.savez(tmp_path / "k.npz", kernel=kernel, scale=scale, reduction=reduction)
    with pytest.raises(UsageError, match=message):
        read_blur(tmp_path / "k.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("kernel")
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "alone.npz", kernel=gaussian(1, 5))
    np.savez(tmp_path / "objects.npz", kernel=np.array([{}], object), scale=4, reduction="bicubic")
    np.savez(tmp_path / "several.npz", kernel=gaussian(1, 5), scale=[4, 4], reduction="bicubic")
    np.savez(tmp_path / "words.npz", kernel=np.array("kernel"), scale=4, reduction="bicubic")
    np.save(tmp_path / "plain.npy", gaussian(1, 5))
    whole = (tmp_path / "alone.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "complex.npz", kernel=gaussian(1, 5) + 0j, scale=4, reduction="bicubic")
    np.savez(tmp_path / "bool.npz", kernel=gaussian(1, 5), scale=True, reduction="bicubic")
    np.savez(tmp_path / "inf.npz", kernel=gaussian(1, 5), scale=np.inf, reduction="bicubic")
    np.savez_compressed(tmp_path / "packed.npz", kernel=gaussian(1, 25), scale=4, reduction="bicubic")
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    for number, place in enumerate(range(0, len(packed), 7)):  # each byte that is another one is found out, or harmless
        damaged = packed.copy()
        damaged[place] ^= 0xFF
        (tmp_path / f"flip{number}.npz").write_bytes(damaged)
        with contextlib.suppress(DrcDeployError):
            read_blur(tmp_path / f"flip{number}.npz")
        (tmp_path / f"flip{number}.npz").unlink()
    (tmp_path / "packed.npz").unlink()
    (tmp_path / "folder").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / "none.npz"]:
        with pytest.raises(InputError):
            read_blur(path)


def test_a_kernel_outside_of_what_networks_know_is_refused() -> None:
    far = np.zeros((127, 127))
    far[63, 120] = 1
    wide = gaussian(30, 127)
    for kernel in (far, wide):
        with pytest.raises(UsageError, match="further than 10 LR pixels"):
            Blur(kernel / kernel.sum(), 4, "bicubic").as_lr_kernel(21)
    assert Blur(gaussian(1, 127), 1, "subsample").as_lr_kernel(21).sum() == pytest.approx(1)


def test_kernels_of_a_set_are_all_there_and_of_its_scale(tmp_path: Path) -> None:
    assert find_blurs(tmp_path, 4, ["a", "b"]) is None
    (tmp_path / "kernels_x4").mkdir()
    np.savez(tmp_path / "kernels_x4/a.npz", kernel=gaussian(1, 5), scale=4, reduction="bicubic")
    with pytest.raises(InputError, match=r"lacks the kernels of 1 of 2 images: b\."):
        find_blurs(tmp_path, 4, ["a", "b"])
    np.savez(tmp_path / "kernels_x4/b.npz", kernel=gaussian(1, 5), scale=2, reduction="bicubic")
    with pytest.raises(DrcDeployError, match="is for x2, not x4"):
        find_blurs(tmp_path, 4, ["a", "b"])
    found = find_blurs(tmp_path, 4, ["a"])
    assert found is not None
    assert set(found) == {"a"}
