"""Throughput is what was counted and timed, and the DataLoader that it is compared with gives honest patches."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from drc_deploy.cli.commands.throughput_command import command
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import SAMPLES, sample_images
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.train.data import png_loader
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.png_loader import png_batches, write_pngs
from drc_deploy.train.experiments import throughput
from drc_deploy.train.experiments.throughput import ThroughputOptions, measure_throughput
from tests.train.data.photograph_files import photographs_of


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PEAK_SECONDS", 0.05)


@pytest.fixture
def shots() -> Photographs:
    return photographs_of("test", [read_rgb(path)[:97, :130] for path in sample_images()[:2]])


def test_figures_belong_together(shots: Photographs) -> None:
    options = ThroughputOptions(ModelSpec("drn_xs", 4), 2, 8, "fp32", seconds=0.8, workers=0, rounds=2)
    result = measure_throughput(shots, options)
    for rate in (result.ours, result.dataloader):
        assert 0 < rate.lowest <= rate.samples_per_s <= rate.highest
        assert 0 < rate.data_share < 1
    assert 0 < result.lowest_ratio <= result.ratio <= result.highest_ratio
    assert result.share_of_peak == pytest.approx(
        result.step_flops / (result.ours.step_ms / 1000) / result.peak_flops_per_s
    )
    # Backward is two more passes, but images need no gradients; duals and losses add a little.
    forward = 2 * options.batch * multiply_adds(build_network(options.spec), options.patch, options.patch)
    assert 2.7 < result.step_flops / forward < 3.1


def test_png_files_hold_the_photographs_at_every_scale(tmp_path: Path, shots: Photographs) -> None:
    files = write_pngs(shots, 4, tmp_path)
    hr = shots.image(shots.entries[1].hr)[:96, :128]
    for path, side in zip(files[1], (24, 48, 96), strict=True):
        np.testing.assert_array_equal(read_rgb(path), resize_bicubic(hr, side, side * 4 // 3))


def test_only_some_of_many_photographs_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shots: Photographs
) -> None:
    monkeypatch.setattr(png_loader, "MOST_PHOTOGRAPHS", 1)
    assert len(write_pngs(shots, 4, tmp_path)) == 1


def test_the_dataloader_gives_aligned_patches(tmp_path: Path) -> None:
    """Red is the row and green the column, in LR pixels; blue is the file."""
    rows, columns = np.mgrid[:96, :128] // 4
    image = np.stack([rows, columns, np.full_like(rows, 9)], axis=2).astype(np.uint8)
    files = write_pngs(photographs_of("test", [image]), 4, tmp_path)
    coarse, middle, fine = next(png_batches(files, patch=6, batch=8, workers=0))
    assert [tuple(x.shape) for x in (coarse, middle, fine)] == [(8, 3, 6 * k, 6 * k) for k in (1, 2, 4)]
    for finer, k in ((middle, 2), (fine, 4)):
        # Bicubic reduction of steps is off by a little at the edges between them.
        assert float((finer[:, :, ::k, ::k] - coarse).abs().max()) <= 1
    assert (fine[:, 2] == 9).all()


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_loader, "default_workers", lambda: 0)
    arguments = [
        "--model",
        "drn_xs",
        "--data",
        str(SAMPLES),
        "--batch",
        "1",
        "--patch",
        "8",
        "--seconds",
        "1",
        "--json",
    ]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["spec"]["name"] == "drn_xs"
    assert report["ours"]["samples_per_s"] > 0
