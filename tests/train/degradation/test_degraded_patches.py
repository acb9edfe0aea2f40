"""Patches of degraded photographs against whole LR images; HR patches stay what they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drc_deploy.errors import UsageError
from drc_deploy.train.data.folders import open_photographs
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.prepare import PrepareOptions, prepare
from drc_deploy.train.degradation.degrade import degrade_image
from drc_deploy.train.degradation.settings import PUBLISHED, Degradation, degradation_of
from tests.train.data.photograph_files import noise, photographs_of, write_div2k

PATCH = 8
ROUND = Degradation(sigma=(2.0, 2.0), isotropic=1.0, kernel_size=31)
"""One kernel for all images, which no flip changes."""


@pytest.fixture
def photographs() -> Photographs:
    return photographs_of("test", [noise(seed, 71 + seed, 90) for seed in range(3)])


def sampler(photographs: Photographs, scale: int = 4, shard: tuple[int, int] = (0, 1)) -> PatchSampler:
    return PatchSampler(photographs, scale=scale, patch=PATCH, batch=6, seed=3, shard=shard)


@pytest.mark.parametrize("scale", [2, 4])
def test_patches_are_cut_from_the_lr_image_of_the_whole_photograph(photographs: Photographs, scale: int) -> None:
    whole = []
    for entry in photographs.entries:
        hr = photographs.image(entry.hr)
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        whole.append(degrade_image(hr, ROUND, scale, (1,))[0])
    patches = sampler(photographs.degraded(ROUND), scale)
    for step in range(8):
        lr, draw = patches.sample(step)[0], patches.draw(step)
        for n, entry in enumerate(draw.entries):
            cut = whole[entry][draw.tops[n] : draw.tops[n] + PATCH, draw.lefts[n] : draw.lefts[n] + PATCH]
            cut = cut[::-1] if draw.flip_rows[n] else cut
            cut = cut[:, ::-1] if draw.flip_columns[n] else cut
            cut = cut.swapaxes(0, 1) if draw.transpose[n] else cut
            assert np.array_equal(lr[n].permute(1, 2, 0).numpy(), cut)


def test_only_the_lr_image_is_degraded(photographs: Photographs) -> None:
    plain, blind = sampler(photographs), sampler(photographs.degraded(PUBLISHED["div2krk"][4]))
    for one, other in zip(plain.sample(2)[1:], blind.sample(2)[1:], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(plain.sample(2)[0], blind.sample(2)[0])


def test_reduced_photographs_are_degraded_too(photographs: Photographs) -> None:
    """Their HR patches are those without a degradation, whose border is narrower."""
    plain, blind = sampler(photographs), sampler(photographs.degraded(ROUND))
    for patches in (plain, blind):
        patches.reduce_photographs(0.5)
    for step in range(6):
        assert torch.equal(plain.sample(step)[-1], blind.sample(step)[-1])


def test_each_patch_of_a_step_has_random_values_of_its_own() -> None:
    flat = photographs_of("flat", [np.full((64, 64, 3), 128, np.uint8)])
    patches = sampler(flat.degraded(Degradation(noise=(1.0, 20.0))))
    deviations = [float(lr.std()) for step in (0, 1) for lr in patches.sample(step)[0]]
    assert len(set(deviations)) == 12
    assert max(deviations) > 3 * min(deviations)


def test_batches_depend_on_seed_and_step_alone_and_processes_share_them(photographs: Photographs) -> None:
    blind = photographs.degraded(replace(PUBLISHED["dcls"][4], noise=(0.0, 20.0), jpeg=(40, 90)))
    whole, again = sampler(blind), sampler(blind)
    whole.sample(0)
    for rank in range(3):
        share = sampler(blind, shard=(rank, 3))
        assert torch.equal(share.sample(4)[0], whole.sample(4)[0][rank::3])
    assert torch.equal(whole.sample(4)[0], again.sample(4)[0])
    assert not torch.equal(whole.sample(4)[0], whole.sample(5)[0])


def test_photographs_say_how_their_lr_images_are_made(photographs: Photographs) -> None:
    sets = [photographs, *(photographs.degraded(PUBLISHED[name][4]) for name in PUBLISHED)]
    assert len({photographs.lr_made_by for photographs in sets}) == 4
    assert len({photographs.fingerprint for photographs in sets}) == 1
    described = sets[2].described["degradation"]
    assert degradation_of({"stage": "prune", "before": {"data": {"degradation": described}}}) == PUBLISHED["dcls"][4]
    assert (
        degradation_of({"stage": "finetune", "data": {"images": 3}, "before": {"data": {"degradation": described}}})
        is None
    )
    assert degradation_of({}) is None


def test_lr_images_of_a_store_are_not_degraded(tmp_path: Path) -> None:
    write_div2k(tmp_path / "div2k")
    prepare([tmp_path / "div2k"], tmp_path / "store", PrepareOptions(lr="paired"))
    photographs = open_photographs(tmp_path / "store")
    with pytest.raises(UsageError, match="LR images of its own"):
        photographs.degraded(ROUND)
    assert photographs.degraded(None).entries == photographs.entries
