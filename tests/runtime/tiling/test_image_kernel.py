"""All tiles of an image get one blur kernel: its own, or one that is given."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from drc_deploy.engine_info import read_onnx_info
from drc_deploy.errors import ArtefactError, ImageError, UsageError
from drc_deploy.images.blur import Blur
from drc_deploy.runtime.backends.blind_parts import open_blind_parts
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import GraphBackend
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.upscaler import Upscaler
from tests.models.tiny_dcls import save_tiny_dcls
from tests.runtime.networks import nearest, write_blind, write_nearest

TILES: dict[str, Any] = {"tile": 16, "overlap": 2}
POINT = np.pad([[1.0]], 2)


@pytest.fixture
def image() -> np.ndarray:
    """Dark at the left and bright at the right: means of tiles differ."""
    noise = np.random.default_rng(1).integers(-20, 20, (16, 28, 3))
    return (np.linspace(30, 220, 28)[None, :, None] + noise).astype(np.uint8)


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    write_blind(tmp_path / "b.onnx")
    return tmp_path / "b.onnx"


def expected(image: np.ndarray, kernel: float) -> np.ndarray:
    return nearest(np.floor(image * np.float32(kernel) + 0.5), 2)


def mean_of_tiles(image: np.ndarray) -> float:
    return float(np.mean([image[:, :16].mean(), image[:, -16:].mean()]) / 255)


def test_one_tile_has_the_kernel_of_the_image(blind: Path, image: np.ndarray) -> None:
    with Upscaler.open(blind) as upscaler:
        assert upscaler.task(image).tile_count == 1
        result = upscaler(image)
        kernel = upscaler.kernel(image)
    assert np.abs(result - expected(image, image.mean() / 255)).max() <= 1
    assert kernel == pytest.approx(np.array([[image.mean() / 255]]))


@pytest.mark.parametrize("threads", [1, 2])
def test_tiles_share_the_mean_of_their_kernels(blind: Path, image: np.ndarray, threads: int) -> None:
    with Upscaler.open(blind, **TILES, threads=threads) as upscaler:
        done: list[int] = []
        result = np.concatenate(list(upscaler.strips(image, done.append)))
        assert sum(done) == upscaler.task(image).tile_count == 4  # two, once to estimate and once to upscale
        kernel = upscaler.kernel(image)
    assert kernel == pytest.approx(np.array([[mean_of_tiles(image)]]))
    assert np.abs(result - expected(image, mean_of_tiles(image))).max() <= 1
    assert abs(image[:, :16].mean() - image[:, -16:].mean()) > 50  # kernels of their own would show


def test_a_known_blur_is_used_and_nothing_estimated(blind: Path, image: np.ndarray) -> None:
    for tiling in ({}, TILES):  # type: dict[str, Any]
        with Upscaler.open(blind, **tiling) as upscaler:
            upscaler.use_blur(Blur(POINT, 2, "bicubic"))
            assert upscaler.task(image).tile_count == upscaler.plan(*image.shape[:2]).tile_count
            assert np.array_equal(upscaler(image), nearest(image, 2))  # the only weight of a kernel of one pixel is 1
            assert upscaler.kernel(image) == pytest.approx(np.ones((1, 1)))


def test_an_alpha_has_the_kernel_of_its_colours(blind: Path, image: np.ndarray) -> None:
    alpha = np.random.default_rng(2).integers(1, 255, image.shape[:2], dtype=np.uint8)
    rgba = np.dstack([image, alpha])
    for tiling, kernel in (({}, image.mean() / 255), (TILES, mean_of_tiles(image))):
        with Upscaler.open(blind, **tiling) as upscaler:
            result = upscaler(rgba)
        assert np.abs(result - expected(rgba, kernel)).max() <= 1


def test_16_bits_stay_16_bits(blind: Path, image: np.ndarray) -> None:
    deep = image.astype(np.uint16) * 257
    for tiling, kernel in (({}, image.mean() / 255), (TILES, mean_of_tiles(image))):  # type: dict[str, Any], float
        with Upscaler.open(blind, **tiling) as upscaler:
            result = upscaler(deep)
        assert result.dtype == np.uint16
        assert np.abs(result - nearest(deep * kernel, 2)).max() <= 2


def test_parts_that_are_missing_or_of_another_checkpoint_are_refused(blind: Path, image: np.ndarray) -> None:
    restorer, other = blind.with_suffix(".restorer.onnx"), blind.with_name("other.onnx")
    write_blind(other, scale=4)
    for damage, message in ((other.with_suffix(".restorer.onnx"), "another"), (None, "does not exist")):
        restorer.unlink() if damage is None else restorer.write_bytes(damage.read_bytes())
        with Upscaler.open(blind, **TILES) as upscaler, pytest.raises(ArtefactError, match=message):
            upscaler(image)
    with Upscaler.open(blind) as upscaler:
        upscaler(image)  # one tile needs no parts


def test_another_graph_in_the_place_of_a_part_is_refused(blind: Path, image: np.ndarray) -> None:
    for suffix in (".kernel.onnx", ".restorer.onnx"):
        write_blind(blind)
        blind.with_suffix(suffix).write_bytes(blind.read_bytes())
        with Upscaler.open(blind, **TILES) as upscaler, pytest.raises(ArtefactError):
            upscaler(image)


@pytest.mark.parametrize("suffix", [".kernel.onnx", ".restorer.onnx"])
def test_a_part_is_no_engine(blind: Path, suffix: str) -> None:
    with pytest.raises(ArtefactError, match=r"only serves .*b\.onnx"):
        Upscaler.open(blind.with_suffix(suffix))


def test_a_task_of_a_closed_upscaler_opens_nothing(blind: Path, image: np.ndarray) -> None:
    upscaler = Upscaler.open(blind, **TILES)
    task = upscaler.task(image)
    upscaler.close()
    with pytest.raises(UsageError, match="closed"):
        upscaler.run(task)


def test_tiles_that_overflow_are_mended_with_the_kernel_of_the_image(blind: Path, image: np.ndarray) -> None:
    image = 150 + image // 3  # its kernel darkens it by less than what is taken for an overflow
    info = dataclasses.replace(read_onnx_info(blind), precision="fp16")
    opened: list[bool] = []

    def open_parts(cpu_only: bool) -> GraphBackend:
        opened.append(cpu_only)
        parts = open_blind_parts(blind.with_suffix(".kernel.onnx"), blind.with_suffix(".restorer.onnx"), threads=1)
        return parts if cpu_only else _Overflowing(parts._runner, info, parts._estimator)

    whole = OnnxRuntimeBackend(blind, threads=1)
    with Upscaler(whole, **TILES, open_rescue=lambda: whole, open_parts=open_parts) as upscaler:
        result = upscaler(image)
        assert upscaler.networks.rescue.count == 2
    assert opened == [False, True]
    assert np.abs(result - expected(image, mean_of_tiles(image))).max() <= 1


class _Overflowing(GraphBackend):
    """A network whose results are no numbers, as of half precision that overflows."""

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        return (result * np.float32(np.nan) for result in super().stream(batches))


def test_a_blur_that_cannot_be_used_is_refused(blind: Path, image: np.ndarray, tmp_path: Path) -> None:
    with Upscaler.open(blind) as upscaler:
        with pytest.raises(UsageError, match="is for x4"):
            upscaler.use_blur(Blur(POINT, 4, "bicubic"))
        upscaler.use_blur(Blur(np.pad([[1.0]], 17), 2, "bicubic"))
        with pytest.raises(ImageError, match="spans 18"):
            upscaler(image)
    write_nearest(tmp_path / "n.onnx")
    with Upscaler.open(tmp_path / "n.onnx") as upscaler, pytest.raises(UsageError, match="takes no blur kernel"):
        upscaler.use_blur(Blur(POINT, 4, "bicubic"))


def test_a_checkpoint_computes_what_its_network_does(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = save_tiny_dcls(tmp_path / "tiny.safetensors", monkeypatch)
    with Upscaler.open(tmp_path / "tiny.safetensors", **TILES) as upscaler:
        found, tiled = upscaler.kernel(image), upscaler(image)
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        tiles = torch.cat([planes[..., :16], planes[..., -16:]])
        kernel = network.estimate(tiles).mean(0, keepdim=True)
        parts = network.restore(tiles, kernel).permute(0, 2, 3, 1).numpy()
    assert found == pytest.approx(kernel[0, 0].numpy(), abs=1e-6)
    # Tiles 0 to 15 and 12 to 27: each alone up to pixel 13 and from pixel 15 on.
    for part, span, places in ((parts[0], slice(0, 26), slice(0, 26)), (parts[1], slice(6, 32), slice(30, 56))):
        assert np.abs(np.clip(part[:, span], 0, 255) - tiled[:, places]).max() <= 0.51
