"""Patches from where photographs have detail: the best of some places by a sum of differences, as a pure draw."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from drc_deploy.errors import UsageError
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.train.data.detail import detail
from drc_deploy.train.data.patches import PatchSampler
from tests.train.data.photograph_files import photographs_of
from tests.train.data.test_patches import cut_with_numpy, pyramid_of
from tests.train.runs import OPTIONS

PATCH = 8


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    return [read_rgb(path)[: 200 + 3 * n, :190] for n, path in enumerate(sample_images())]


def sampler(images: Sequence[NDArray[np.uint8]], places: int = 4, **changed: object) -> PatchSampler:
    arguments = {"scale": 4, "patch": PATCH, "batch": 12, "seed": 3} | changed
    patches = PatchSampler(photographs_of("test", images), **arguments)  # type: ignore[arg-type]
    patches.prefer_detail(places)
    return patches


def differences(image: NDArray[np.uint8], top: int, left: int, side: int) -> int:
    """Add up, on a lattice in a patch, how far green is from its neighbours below and to the right."""
    green, total = image[:, :, 1].astype(int), 0
    for y in range(top + 4, top + side - 1, 8):
        for x in range(left + 4, left + side - 1, 8):
            total += abs(green[y, x] - green[y + 1, x]) + abs(green[y, x] - green[y, x + 1])
    return int(total)


def test_detail_is_the_sum_of_differences(images: list[NDArray[np.uint8]]) -> None:
    image = images[0]
    tops, lefts, stride = np.array([0, 30, 101]), np.array([7, 3, 50]), image.shape[1]
    found = detail(image.reshape(-1, 3), tops * stride + lefts, np.full(3, stride), 32)
    assert found.tolist() == [differences(image, y, x, 32) for y, x in zip(tops, lefts, strict=True)]


@pytest.mark.parametrize("smallest", [None, 0.5])
def test_the_place_of_most_detail_is_taken(images: list[NDArray[np.uint8]], smallest: float | None) -> None:
    """The candidates of a batch are drawn as one after another; each patch is where its candidates have most."""
    patches, shares = sampler(images, 3), [Fraction(1)]
    if smallest:
        patches.reduce_photographs(smallest)
        shares = [Fraction(tenths, 10) for tenths in (10, 9, 8, 7, 6, 5)]
    better = []
    for step in range(12):
        draw, random = patches.draw(step), np.random.default_rng((3, step))
        share = shares[random.integers(len(shares))] if smallest else shares[0]
        p, q = (4, 4) if share == 1 else (share.numerator, share.denominator)
        entries = random.integers(len(images), size=12)
        starts = [
            (np.array([images[e].shape[axis] // 4 * 4 // q * p for e in entries]) - 4 * PATCH) // p + 1
            for axis in (0, 1)
        ]
        each = []
        for _ in range(3):
            places = zip(entries, random.integers(starts[0]), random.integers(starts[1]), strict=True)
            each.append([differences(images[e], y * q, x * q, 4 * PATCH * q // p) for e, y, x in places])
        drawn = zip(draw.entries, draw.tops, draw.lefts, strict=True)
        chosen = [differences(images[e], y * q, x * q, 4 * PATCH * q // p) for e, y, x in drawn]
        assert (draw.share, draw.entries.tolist(), chosen) == (share, entries.tolist(), np.max(each, axis=0).tolist())
        better.append(np.mean(chosen) / np.mean(each))
    assert np.mean(better) > 1.1


def test_the_batch_is_cut_where_it_was_drawn(images: list[NDArray[np.uint8]]) -> None:
    patches, pyramids = sampler(images), [pyramid_of(image, 4) for image in images]
    batch = patches.sample(2)
    for n, entry in enumerate(patches.draw(2).entries):
        for ours, expected in zip(batch, cut_with_numpy(pyramids[entry], patches, 2, n), strict=True):
            assert torch.equal(ours[n].cpu(), expected)


def test_seed_and_step_decide_alone_and_processes_share_a_batch(images: list[NDArray[np.uint8]]) -> None:
    for step in (4, 0, 9):
        whole = sampler(images).sample(step)
        assert all(torch.equal(a, b) for a, b in zip(sampler(images, stream=True).sample(step), whole, strict=True))
        share = sampler(images, shard=(1, 3)).sample(step)
        assert all(torch.equal(a, b[1::3]) for a, b in zip(share, whole, strict=True))


def test_one_place_is_the_plain_draw(images: list[NDArray[np.uint8]]) -> None:
    """Runs that began without these options go on with the patches that they would have seen."""
    for step in range(3):
        draw, random = sampler(images, 1).draw(step), np.random.default_rng((3, step))
        entries = random.integers(len(images), size=12)
        tops, lefts = (
            random.integers(np.array([images[e].shape[axis] // 4 - PATCH + 1 for e in entries])) for axis in (0, 1)
        )
        flips = random.integers(2, size=(3, 12))
        drawn = (draw.entries, draw.tops, draw.lefts, draw.flip_rows, draw.flip_columns, draw.transpose)
        for ours, expected in zip(drawn, (entries, tops, lefts, *flips), strict=True):
            assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("places", [0, 17])
def test_impossible_numbers_of_places_are_refused(places: int) -> None:
    with pytest.raises(UsageError, match="prefer_detail must be"):
        replace(OPTIONS, prefer_detail=places)
