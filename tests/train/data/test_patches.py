"""Patches against whole images that are reduced, cut and turned with NumPy; the same wherever the pixels live."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from drc_deploy.images.resize import resize_bicubic
from drc_deploy.train.data import gather
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs, Placed
from tests.train.data.photograph_files import photographs_of

SIZES = ((64, 64), (65, 90), (103, 71), (64, 79))
"""Height and width of the photographs: one patch exactly, and sizes that no scale divides."""
PATCH = 8
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


@pytest.fixture
def images() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def sampler(images: Sequence[NDArray[np.uint8]], scale: int = 4, batch: int = 12, seed: int = 3) -> PatchSampler:
    return PatchSampler(photographs_of("test", images), scale=scale, patch=PATCH, batch=batch, seed=seed)


def cut_with_numpy(pyramid: Sequence[NDArray[np.uint8]], patches: PatchSampler, step: int, n: int) -> list[Tensor]:
    """Cut patch ``n`` of a step out of its photograph at all scales."""
    draw, result = patches.draw(step), []
    for level, image in enumerate(pyramid):
        top, left, side = draw.tops[n] << level, draw.lefts[n] << level, PATCH << level
        cut = image[top : top + side, left : left + side]
        cut = cut[::-1] if draw.flip_rows[n] else cut
        cut = cut[:, ::-1] if draw.flip_columns[n] else cut
        cut = cut.swapaxes(0, 1) if draw.transpose[n] else cut
        result.append(torch.from_numpy(cut.transpose(2, 0, 1).astype(np.float32)))
    return result


def pyramid_of(image: NDArray[np.uint8], scale: int) -> list[NDArray[np.uint8]]:
    height, width = image.shape[0] // scale, image.shape[1] // scale
    hr = image[: height * scale, : width * scale]
    factors = [1 << level for level in range(scale.bit_length() - 1)]
    return [*(resize_bicubic(hr, height * f, width * f) for f in factors), hr]


def check_against_numpy(images: Sequence[NDArray[np.uint8]], scale: int) -> None:
    patches, pyramids = sampler(images, scale), [pyramid_of(image, scale) for image in images]
    turns = set()
    for step in range(12):
        batch, draw = patches.sample(step), patches.draw(step)
        for n, entry in enumerate(draw.entries):
            for ours, expected in zip(batch, cut_with_numpy(pyramids[entry], patches, step, n), strict=True):
                assert torch.equal(ours[n].cpu(), expected)
            turns.add((draw.flip_rows[n], draw.flip_columns[n], draw.transpose[n]))
    assert len(turns) == 8


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_patches_equal_those_cut_from_whole_reduced_images(images: list[NDArray[np.uint8]], scale: int) -> None:
    check_against_numpy(images, scale)


def test_a_batch_is_float32_and_channels_last(images: list[NDArray[np.uint8]]) -> None:
    batch = sampler(images, batch=2).sample(0)
    assert [tuple(level.shape) for level in batch] == [(2, 3, PATCH * k, PATCH * k) for k in (1, 2, 4)]
    assert all(level.dtype == torch.float32 for level in batch)
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in batch)


def test_the_batch_depends_on_seed_and_step_alone(images: list[NDArray[np.uint8]]) -> None:
    first, again, other = sampler(images), sampler(images), sampler(images, seed=4)
    first.sample(0)
    assert equal(first.sample(7), again.sample(7))
    assert not equal(first.sample(7), first.sample(8))
    assert not equal(first.sample(7), other.sample(7))


def test_processes_share_a_batch(images: list[NDArray[np.uint8]]) -> None:
    photographs = photographs_of("test", images)
    whole = sampler(images).sample(1)
    for rank in range(3):
        share = PatchSampler(photographs, scale=4, patch=PATCH, batch=12, seed=3, shard=(rank, 3))
        assert equal(share.sample(1), [level[rank::3] for level in whole])


def test_given_lr_images_are_used_where_there_are_some(images: list[NDArray[np.uint8]]) -> None:
    """Photograph 0 brings both LR images, 1 one of them, the rest none; given ones differ from what is made."""
    pyramids = [pyramid_of(image, 4) for image in images]
    photographs = photographs_of("test", images)
    pixels, entries = [photographs.pixels], list(photographs.entries)
    for number, factors in ((0, (4, 2)), (1, (2,))):
        height, width = images[number].shape[:2]
        for factor in factors:
            given = np.random.default_rng(factor).integers(0, 256, (height // factor, width // factor, 3), np.uint8)
            placed = Placed(sum(map(len, pixels)), *given.shape[:2])
            pixels.append(given.reshape(-1, 3))
            entries[number] = replace(entries[number], lr=(*entries[number].lr, (factor, placed)))
            pyramids[number][{4: 0, 2: 1}[factor]] = given
    mixed = Photographs("test", np.concatenate(pixels), tuple(entries))
    for chosen in (mixed, replace(mixed, entries=mixed.entries[:1])):
        patches = PatchSampler(chosen, scale=4, patch=PATCH, batch=12, seed=3)
        batch = patches.sample(0)
        for n, entry in enumerate(patches.draw(0).entries):
            for ours, expected in zip(batch, cut_with_numpy(pyramids[entry], patches, 0, n), strict=True):
                assert torch.equal(ours[n].cpu(), expected)


def test_a_streamed_map_of_a_file_gives_the_same_in_any_order(tmp_path: Path, images: list[NDArray[np.uint8]]) -> None:
    inside = photographs_of("test", images)
    inside.pixels.tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", np.uint8, mode="r").reshape(-1, 3)
    direct = sampler(images)
    streamed = PatchSampler(replace(inside, pixels=mapped), scale=4, patch=PATCH, batch=12, seed=3, stream=True)
    for step in (0, 1, 2, 2, 9, 8, 11, 3, 4):
        assert equal(streamed.sample(step), direct.sample(step))
    streamed.close()


def test_an_error_of_the_thread_reaches_whoever_samples(images: list[NDArray[np.uint8]]) -> None:
    photographs = photographs_of("test", images)
    cut_off = replace(photographs, pixels=photographs.pixels[:10])
    patches = PatchSampler(cut_off, scale=4, patch=PATCH, batch=12, seed=3, stream=True)
    with pytest.raises(IndexError):
        patches.sample(0)
    patches.close()


def test_pixels_on_the_device_give_the_same_as_on_the_host(
    monkeypatch: pytest.MonkeyPatch, images: list[NDArray[np.uint8]]
) -> None:
    monkeypatch.setattr(gather, "CHUNK", 1000)  # several copies, the last one short
    cpu = torch.device("cpu")
    monkeypatch.setattr(gather, "Reader", lambda pixels, plan: gather.ResidentReader(pixels, plan, cpu))
    resident = sampler(images).sample(2)
    monkeypatch.undo()
    assert equal(resident, sampler(images).sample(2))


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("stream", [False, True])
def test_a_gpu_cuts_the_same_patches(images: list[NDArray[np.uint8]], stream: bool) -> None:
    check_against_numpy(images, 4)
    photographs = photographs_of("test", images)
    patches = PatchSampler(photographs, scale=4, patch=PATCH, batch=12, seed=3, stream=stream)
    for step in (0, 1, 5):
        batch = patches.sample(step)
        assert all(level.device.type == "cuda" for level in batch)
        assert equal(batch, sampler(images).sample(step))
    patches.close()


@needs_gpu
@pytest.mark.gpu
def test_what_does_not_fit_the_gpu_is_streamed(
    monkeypatch: pytest.MonkeyPatch, images: list[NDArray[np.uint8]]
) -> None:
    device, pixels = torch.device("cuda"), photographs_of("test", images).pixels
    assert isinstance(gather.open_reader(pixels, lambda _: [], device, stream=None), gather.ResidentReader)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (pixels.nbytes, pixels.nbytes))
    assert isinstance(gather.open_reader(pixels, lambda _: [], device, stream=None), gather.StreamingReader)


def equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
