"""Sets differ by their images, not by their names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import ImageError, UsageError
from drc_deploy.pairs import PairFiles
from drc_deploy.train.loop.benchmark_psnr import find_benchmarks, fingerprints, upscale_image
from tests.export.networks import Gathers


def pair(folder: Path, name: str, content: bytes) -> PairFiles:
    folder.mkdir(exist_ok=True)
    for kind in ("hr", "lr"):
        (folder / f"{name}_{kind}.png").write_bytes(kind.encode() + content)
    return PairFiles(folder / f"{name}_hr.png", folder / f"{name}_lr.png")


def test_a_fingerprint_is_of_the_files_in_whatever_order_and_folder(tmp_path: Path) -> None:
    first = [pair(tmp_path / "a", "x", b"1"), pair(tmp_path / "a", "y", b"2")]
    moved = [pair(tmp_path / "b", "y", b"2"), pair(tmp_path / "b", "x", b"1")]
    other = [pair(tmp_path / "c", "x", b"1"), pair(tmp_path / "c", "y", b"3")]
    a, b, c = (fingerprints([("set", pairs)])["set"] for pairs in (first, moved, other))
    assert a == b != c


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "set", tmp_path / "b" / "set"]
    with pytest.raises(UsageError, match="two benchmark sets are called set"):
        find_benchmarks(folders, 4)


def test_sizes_that_do_not_belong_together_are_known_before_training(tmp_path: Path) -> None:
    for name, side in (("HR", 64), ("LRx4", 20)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (side, side)).save(tmp_path / "set" / name / "a.png")
    with pytest.raises(ImageError, match="not 4 times as large"):
        find_benchmarks([tmp_path / "set"], 4)


def test_an_image_whose_sides_the_network_does_not_take_is_continued_and_cut() -> None:
    lr = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    even = np.pad(lr, ((0, 1), (0, 1), (0, 0)), mode="edge")  # the mirror image of one pixel
    network = Gathers()
    np.testing.assert_array_equal(upscale_image(network, lr), upscale_image(network, even)[:14, :18])
