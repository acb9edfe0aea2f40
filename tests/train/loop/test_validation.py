"""Validation measures as `drc-deploy eval` does, and only on images that are kept for it."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy import metrics
from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.errors import ImageError, InputError, UsageError
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import sample_images
from drc_deploy.metrics import UInt8Image
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.pairs import Photograph
from drc_deploy.train.data.photographs import Entry, Photographs, Placed
from drc_deploy.train.degradation.benchmark_set import SetOptions, make_set
from drc_deploy.train.degradation.degrade import degrade_image
from drc_deploy.train.degradation.settings import PUBLISHED
from drc_deploy.train.loop.benchmark_psnr import find_benchmarks, measure_quality
from drc_deploy.train.loop.validation import DEGRADATION_SEED, PICTURES, Validator
from tests.train.data.photograph_files import photographs_of

NOTHING = photographs_of("nothing", [])


class Nearest(SRNetwork):
    """Repeats every pixel: its PSNR is known without any network."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = ModelSpec("nearest", 4)
        self.body = nn.Identity()

    def forward(self, lr: Tensor) -> list[Tensor]:
        return [self.upscale(lr)]

    def upscale(self, lr: Tensor) -> Tensor:
        assert not self.training
        return F.interpolate(lr, scale_factor=4.0)

    def build_duals(self, design: DualDesign = "progressive") -> nn.ModuleList:
        raise NotImplementedError


def write(path: Path, image: UInt8Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


@pytest.fixture
def crops() -> list[UInt8Image]:
    """Photographs whose sides are no multiples of 4."""
    return [np.ascontiguousarray(read_rgb(path)[40:143, 30:129]) for path in sample_images()]


@pytest.fixture
def folder(tmp_path: Path, crops: list[UInt8Image]) -> Path:
    for index, crop in enumerate(crops):
        write(tmp_path / "mine" / "below" / f"{index}.png", crop)
    return tmp_path / "mine"


def find(folder: Path, photographs: Photographs = NOTHING, benchmarks: tuple[Path, ...] = ()) -> Validator:
    return Validator.find(folder, 4, benchmarks=find_benchmarks(benchmarks, 4), photographs=photographs)


def test_psnr_is_the_mean_of_metrics_score(folder: Path, crops: list[UInt8Image]) -> None:
    expected = []
    for crop in crops:
        hr = crop[:100, :96]
        lr = resize_bicubic(hr, 25, 24)
        expected.append(metrics.score(hr, lr.repeat(4, 0).repeat(4, 1), border=4).psnr_y)
    assert find(folder).measure(Nearest()).psnr == pytest.approx(metrics.mean_psnr(expected), abs=1e-12)


def test_pairs_give_what_eval_gives(tmp_path: Path, folder: Path, crops: list[UInt8Image]) -> None:
    rng = np.random.default_rng(2)
    for index, crop in enumerate(crops):
        hr = crop[:100, :96]
        write(tmp_path / "pairs" / "HR" / f"{index}.png", hr)
        lr = resize_bicubic(hr, 25, 24).astype(int) + rng.integers(-3, 4, (25, 24, 3))  # LR files that are not bicubic
        write(tmp_path / "pairs" / "LRx4" / f"{index}x4.png", lr.clip(0, 255).astype(np.uint8))
    network = build_network(ModelSpec("drn_xs", 4))
    measured = measure_quality(network, find_benchmarks([tmp_path / "pairs"], 4))["psnr_y"]["pairs"]
    psnr = find(tmp_path / "pairs").measure(network).psnr
    assert round(psnr, 3) == measured
    assert psnr != find(folder).measure(network).psnr


def test_a_set_made_of_a_benchmark_is_refused(tmp_path: Path, crops: list[UInt8Image]) -> None:
    write(tmp_path / "Set5" / "HR" / "a.png", crops[0])
    make_set(tmp_path / "Set5", tmp_path / "mine", SetOptions("dcls", 4, 1))
    for folder in ("mine", "mine/HR"):
        with pytest.raises(UsageError, match="mine was made of Set5"):
            find(tmp_path / folder)
    make_set(tmp_path / "mine" / "HR", tmp_path / "other", SetOptions("dcls", 4, 1))
    assert find(tmp_path / "other")


def test_photographs_are_degraded_as_in_training(folder: Path, crops: list[UInt8Image]) -> None:
    """Nearest-neighbour enlargement of the LR images that ``degrade_image`` makes."""
    settings, values = PUBLISHED["div2krk"][4], []
    for number, crop in enumerate(crops, start=1):
        hr = crop[:100, :96]
        lr, _ = degrade_image(hr, settings, 4, (DEGRADATION_SEED, number))
        values.append(metrics.score(hr, lr.repeat(4, axis=0).repeat(4, axis=1), border=4).psnr_y)
    blind = Validator.find(folder, 4, benchmarks=[], photographs=NOTHING.degraded(settings))
    assert blind.measure(Nearest()).psnr == pytest.approx(np.mean(np.array(values, float)))
    assert blind.fingerprint != find(folder).fingerprint


def test_a_photograph_that_is_too_small_for_the_kernel_is_named(tmp_path: Path) -> None:
    write(tmp_path / "val" / "small.png", np.zeros((24, 24, 3), np.uint8))
    with pytest.raises(ImageError, match=r"small\.png of 24x24 pixels is smaller than the blur kernel"):
        Validator.find(tmp_path / "val", 4, benchmarks=[], photographs=NOTHING.degraded(PUBLISHED["dcls"][4]))


def test_pictures_are_bicubic_network_and_hr_side_by_side(tmp_path: Path) -> None:
    photograph = Photograph(sample_images()[0]).load(4)
    write(tmp_path / "mine" / "large.png", photograph.hr[:300, :410])
    hr = photograph.hr[:300, :408]
    lr = resize_bicubic(hr, 75, 102)
    ((name, picture),) = find(tmp_path / "mine").measure(Nearest()).pictures
    assert (name, picture.shape) == ("large", (256, 3 * 256, 3))
    rows, columns = slice(22, 278), slice(76, 332)
    parts = [resize_bicubic(lr, 300, 408), lr.repeat(4, 0).repeat(4, 1), hr]
    np.testing.assert_array_equal(picture, np.concatenate([part[rows, columns] for part in parts], 1))


def test_small_images_are_shown_whole_and_only_the_first_are_shown(folder: Path, crops: list[UInt8Image]) -> None:
    for index in range(PICTURES):
        write(folder / f"more{index}.png", crops[0][:, index:])
    pictures = find(folder).measure(Nearest()).pictures
    assert len(pictures) == PICTURES
    assert pictures[0][1].shape == (100, 3 * 96, 3)


def test_every_module_is_put_back_into_its_mode_also_after_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(ModelSpec("drn_xs", 4)).train()
    next(iter(network.children())).eval()
    modes = [module.training for module in network.modules()]
    assert len(set(modes)) == 2
    before = torch.get_rng_state()
    validator = find(folder)
    validator.measure(network)
    assert [module.training for module in network.modules()] == modes
    monkeypatch.setattr(network, "upscale", None)
    with pytest.raises(TypeError):
        validator.measure(network)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)  # validation does not change what is trained on
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_perfect_network_has_infinite_psnr(tmp_path: Path) -> None:
    write(tmp_path / "flat.png", np.full((40, 40, 3), 90, np.uint8))
    assert find(tmp_path).measure(Nearest()).psnr == math.inf


@pytest.mark.parametrize("name", ["Set5", "set14", "BSD100", "b100", "BSDS100", "URBAN100", "manga109"])
@pytest.mark.parametrize("below", ["", "HR", "LRx4", ".."])
def test_a_folder_named_like_a_benchmark_is_refused(folder: Path, name: str, below: str) -> None:
    shutil.copytree(folder / "below", folder.parent / "sets" / name / "HR")
    with pytest.raises(UsageError, match=f"{name} is a benchmark set"):
        find(folder.parent / "sets" / name / below)


def test_the_real_benchmark_sets_are_refused_under_any_name(benchmark_data: Path, tmp_path: Path) -> None:
    for name in ("Set5", "Set14", "BSD100"):
        with pytest.raises(UsageError, match="is a benchmark set"):
            find(benchmark_data / name)
    shutil.copytree(benchmark_data / "Set5" / "HR", tmp_path / "innocent")
    with pytest.raises(UsageError, match=r"baby\.png is baby of Set5, which --eval reports"):
        find(tmp_path / "innocent", benchmarks=(benchmark_data / "Set5",))


@pytest.mark.parametrize("cropped", [False, True])
def test_an_image_that_is_trained_on_is_refused(folder: Path, crops: list[UInt8Image], cropped: bool) -> None:
    other = crops[1].copy()
    other[50] = 0
    trained = photographs_of("photos", [other, crops[1][:100, :97] if cropped else crops[1]])
    with pytest.raises(UsageError, match=r"1\.png is 1 of photos, which is trained on"):
        find(folder, trained)
    # The same first row does not make it the same image.
    assert find(folder, replace(trained, entries=trained.entries[:1]))


def test_an_image_that_is_trained_on_with_its_own_lr_is_refused(folder: Path, crops: list[UInt8Image]) -> None:
    lr = resize_bicubic(crops[0], 25, 24)
    pixels = np.concatenate([image.reshape(-1, 3) for image in (crops[0], lr)])
    entry = Entry("paired", "no hash of HR alone", Placed(0, 103, 99), ((4, Placed(103 * 99, 25, 24)),))
    with pytest.raises(UsageError, match="is paired of photos, which is trained on"):
        find(folder, Photographs("photos", pixels, (entry,)))


def test_unusable_folders_are_a_sentence(tmp_path: Path, crops: list[UInt8Image]) -> None:
    with pytest.raises(InputError, match="holds no images"):
        find(tmp_path)
    write(tmp_path / "pairs" / "HR" / "a.png", crops[0])
    with pytest.raises(InputError, match=r"there is no folder .*LRx4"):
        find(tmp_path / "pairs")
    write(tmp_path / "small" / "a.png", crops[0][:18])
    with pytest.raises(ImageError, match=r"a\.png has 96x16 pixels"):
        find(tmp_path / "small")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="not an image"):
        find(tmp_path / "bad")
