"""Photographs that are reduced before patches are cut, against the resizer on the whole photograph."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from drc_deploy.errors import UsageError
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import sample_images
from drc_deploy.models.network import ModelSpec
from drc_deploy.train.data import gather
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs, Placed
from drc_deploy.train.data.shrinking import Shrinking, shares_below_one
from drc_deploy.train.data.targets import FollowedPatches
from drc_deploy.train.degradation.bicubic import CENTRE
from drc_deploy.train.loop.trainer import Trainer
from tests.models.plain_network import PlainNetwork
from tests.train.data.photograph_files import photographs_of
from tests.train.interruption import interrupt_after
from tests.train.runs import OPTIONS, assert_same_weights, train_fresh

SCALE, PATCH = 4, 8
SIDE = SCALE * PATCH
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    """Photographs of several sizes, one of noise, and one so small that it is never reduced to half."""
    found = [read_rgb(path)[: 150 + 7 * n, : 131 + 5 * n] for n, path in enumerate(sample_images())]
    random = np.random.default_rng(2)
    return [*found, random.integers(0, 256, (90, 133, 3), dtype=np.uint8), found[0][:50, :50]]


def sampler(images: Sequence[NDArray[np.uint8]], smallest: float | None = 0.5, **changed: object) -> PatchSampler:
    arguments = {"scale": SCALE, "patch": PATCH, "batch": 12, "seed": 3} | changed
    patches = PatchSampler(photographs_of("test", images), **arguments)  # type: ignore[arg-type]
    if smallest is not None:
        patches.reduce_photographs(smallest)
    return patches


def reduced(image: NDArray[np.uint8], share: Fraction) -> NDArray[np.uint8]:
    """Reduce the whole photograph, without what lies beyond the last whole block."""
    p, q = share.numerator, share.denominator
    height, width = (side // SCALE * SCALE // q for side in image.shape[:2])
    return resize_bicubic(image[: height * q, : width * q], height * p, width * p)


def turned(patch: NDArray[np.uint8], rows: bool, columns: bool, transpose: bool) -> NDArray[np.uint8]:
    patch = patch[::-1] if rows else patch
    patch = patch[:, ::-1] if columns else patch
    return patch.swapaxes(0, 1) if transpose else patch


def test_patches_are_those_of_whole_reduced_photographs(images: list[NDArray[np.uint8]]) -> None:
    """Weights are rounded to 2^-16, so that sums are exact: a value near a half may be rounded to the other side."""
    patches, seen, differing, count = sampler(images), set(), 0, 0
    for step in range(60):
        draw, hr = patches.draw(step), patches.sample(step)[-1]
        seen.add(draw.share)
        if draw.share == 1:
            continue
        p = draw.share.numerator
        for n, entry in enumerate(draw.entries):
            top, left = draw.tops[n] * p, draw.lefts[n] * p
            cut = reduced(images[entry], draw.share)[top : top + SIDE, left : left + SIDE]
            expected = turned(cut, draw.flip_rows[n], draw.flip_columns[n], draw.transpose[n])
            difference = np.abs(hr[n].permute(1, 2, 0).cpu().numpy() - expected)
            assert difference.max() <= 1
            differing, count = differing + int((difference > 0).sum()), count + difference.size
    assert seen == {Fraction(tenths, 10) for tenths in (10, 9, 8, 7, 6, 5)}
    assert differing / count < 0.002


def test_low_resolution_images_are_made_from_the_reduced_ones(images: list[NDArray[np.uint8]]) -> None:
    """Three pixels from the border the reduction sees nothing but the patch."""
    patches = sampler(images)
    for step in range(20):
        low, middle, hr = (level.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8) for level in patches.sample(step))
        for n, transpose in enumerate(patches.draw(step).transpose):
            for level in (low[n], middle[n]):
                # It was turned after the reduction, which goes by rows first.
                image, made = (x.swapaxes(0, 1) if transpose else x for x in (hr[n], level))
                expected = resize_bicubic(np.ascontiguousarray(image), *made.shape[:2])
                np.testing.assert_array_equal(made[3:-3, 3:-3], expected[3:-3, 3:-3])


def test_sums_are_exact_in_float32() -> None:
    for share in shares_below_one(0.5):
        weights = Shrinking.of(share, -6, 40, torch.device("cpu")).weights.double()
        assert torch.equal(weights * 2**16, (weights * 2**16).round())
        assert torch.equal(weights.sum(dim=0), torch.ones(46, dtype=torch.float64))
        assert float(CENTRE * weights.abs().sum(dim=0).max()) + 0.5 < 2**8


def test_steps_draw_from_tenths_down_to_the_smallest() -> None:
    assert shares_below_one(0.6) == [Fraction(9, 10), Fraction(4, 5), Fraction(7, 10), Fraction(3, 5)]
    assert shares_below_one(0.65)[-1] == Fraction(7, 10)


def test_nothing_changes_without_it_and_with_it_the_step_decides_alone(images: list[NDArray[np.uint8]]) -> None:
    first, again = sampler(images), sampler(images)
    first.sample(0)
    for step in (5, 9, 7):
        assert equal(first.sample(step), again.sample(step))
    shares = {first.draw(step).share for step in range(9)}
    assert len(shares) > 1
    assert {sampler(images, None).draw(step).share for step in range(9)} == {1}


def test_processes_share_a_batch_of_one_size(images: list[NDArray[np.uint8]]) -> None:
    for step in range(6):
        whole = sampler(images).sample(step)
        for rank in range(3):
            assert equal(sampler(images, shard=(rank, 3)).sample(step), [level[rank::3] for level in whole])


def test_streamed_and_resident_pixels_give_the_same(
    monkeypatch: pytest.MonkeyPatch, images: list[NDArray[np.uint8]]
) -> None:
    streamed, cpu = sampler(images, stream=True), torch.device("cpu")
    expected = [sampler(images).sample(step) for step in range(6)]
    assert all(equal(streamed.sample(step), expected[step]) for step in range(6))
    streamed.close()
    monkeypatch.setattr(gather, "Reader", lambda pixels, plan: gather.ResidentReader(pixels, plan, cpu))
    resident = sampler(images)
    assert all(equal(resident.sample(step), expected[step]) for step in range(6))


@needs_gpu
@pytest.mark.gpu
def test_a_gpu_makes_the_same_patches(monkeypatch: pytest.MonkeyPatch, images: list[NDArray[np.uint8]]) -> None:
    on_gpu = [[level.cpu() for level in sampler(images).sample(step)] for step in range(8)]
    monkeypatch.setattr("drc_deploy.train.data.patches.training_device", lambda: torch.device("cpu"))
    assert all(equal(on_gpu[step], sampler(images).sample(step)) for step in range(8))


def test_only_photographs_with_room_are_reduced(images: list[NDArray[np.uint8]]) -> None:
    patches, small = sampler(images), len(images) - 1
    entries = [(patches.draw(step).share, patches.draw(step).entries) for step in range(60)]
    assert any(small in numbers for share, numbers in entries if share == 1)
    assert not any(small in numbers for share, numbers in entries if share == Fraction(1, 2))
    with pytest.raises(UsageError, match=r"no photograph has room for a patch when it is reduced to 0\.7"):
        sampler([images[-1]])
    sampler([images[-1]], 0.8)


def test_given_lr_images_are_refused(images: list[NDArray[np.uint8]]) -> None:
    photographs = photographs_of("test", images[:1])
    height, width = (side // 4 for side in images[0].shape[:2])
    placed = Placed(len(photographs.pixels), height, width)
    pixels = np.concatenate((photographs.pixels, np.zeros((height * width, 3), np.uint8)))
    paired = Photographs("test", pixels, (replace(photographs.entries[0], lr=((4, placed),)),))
    with pytest.raises(UsageError, match="LR images of its own"):
        PatchSampler(paired, scale=4, patch=8, batch=2, seed=1).reduce_photographs(0.6)


def test_an_unpruned_network_is_followed_on_reduced_photographs(images: list[NDArray[np.uint8]]) -> None:
    network, given = PlainNetwork(ModelSpec("plain", 4)), sampler(images)
    followed = FollowedPatches(sampler(images), network)
    for step in range(6):
        lr, found = given.sample(step)[0], followed.sample(step)
        assert torch.equal(found[0], lr)
        with torch.no_grad():
            torch.testing.assert_close(found[-1], network.upscale(lr))


@pytest.mark.parametrize("smallest", [0.49, 0.91, 1.0, float("nan")])
def test_impossible_scales_are_refused(smallest: float) -> None:
    with pytest.raises(UsageError, match="augment_scale must be"):
        replace(OPTIONS, augment_scale=smallest)


def test_an_interrupted_run_ends_with_the_same_weights(
    images: list[NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, options = photographs_of("test", images), replace(OPTIONS, augment_scale=0.5)
    train_fresh(photographs, options, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 4)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, options, tmp_path / "broken.safetensors")
    train_fresh(photographs, options, tmp_path / "broken.safetensors")
    assert_same_weights(tmp_path / "straight.safetensors", tmp_path / "broken.safetensors")


def equal(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
