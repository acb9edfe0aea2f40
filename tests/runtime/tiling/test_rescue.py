"""A tile that overflows in half precision is recomputed or refused, never silently in the result."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc_deploy.engine_info import METADATA_KEY, IoDtype
from drc_deploy.errors import ArtefactError
from drc_deploy.images.reading import read_rgb
from drc_deploy.images.resize import resize_bicubic
from drc_deploy.locate import sample_images
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.tiling.rescue import is_broken
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import write_nearest


class HalfBackend(FakeBackend):
    """Breaks in tiles with a pixel of 255, as a network does whose activations grow with brightness."""

    def __init__(self, io_dtype: IoDtype = "uint8", breaks_to: float = 0.0) -> None:
        super().__init__(replace(fake_info(io_dtype=io_dtype), precision="fp16"))
        self._breaks_to = breaks_to

    def run(self, batch: Pixels) -> Pixels:
        result = super().run(batch)
        result[(batch == 255).any(axis=(1, 2, 3))] = self._breaks_to
        return result


def exact(io_dtype: IoDtype = "uint8") -> Callable[[], FakeBackend]:
    return lambda: FakeBackend(fake_info(io_dtype=io_dtype))


@pytest.fixture
def image() -> Pixels:
    pixels = np.full((64, 48, 3), 120, np.uint8)
    pixels[5, 5] = pixels[60, 40] = 255
    return pixels


@pytest.mark.parametrize(("io_dtype", "breaks_to"), [("uint8", 0), ("float32", np.nan), ("float32", np.inf)])
def test_broken_tiles_are_computed_again_and_counted(
    io_dtype: IoDtype, breaks_to: float, image: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    upscaler = Upscaler(HalfBackend(io_dtype, breaks_to), tile=16, overlap=0, open_rescue=exact(io_dtype))
    with caplog.at_level(logging.WARNING):
        result = upscaler(image)
    assert np.array_equal(result, image.repeat(2, axis=0).repeat(2, axis=1))
    assert upscaler.networks.rescue.count == 2
    assert len(caplog.messages) == 1


def test_alpha_is_looked_at_too(image: Pixels) -> None:
    alpha = np.full(image.shape[:2], 200, np.uint8)
    alpha[0, 0] = 255
    rgba = np.dstack([np.minimum(image, 254), alpha])
    upscaler = Upscaler(HalfBackend(), open_rescue=exact())
    assert np.array_equal(upscaler(rgba), rgba.repeat(2, axis=0).repeat(2, axis=1))
    assert upscaler.networks.rescue.count == 1


def test_without_another_network_a_broken_tile_is_an_error(image: Pixels) -> None:
    with pytest.raises(ArtefactError, match="no float32 network"):
        Upscaler(HalfBackend())(image)


def test_a_tile_that_overflows_in_float32_too_is_an_error(image: Pixels) -> None:
    with pytest.raises(ArtefactError, match="in float32 too"):
        Upscaler(HalfBackend(), open_rescue=HalfBackend)(image)


def test_both_networks_are_closed(image: Pixels) -> None:
    first, second = HalfBackend(), FakeBackend(fake_info())
    with Upscaler(first, open_rescue=lambda: second) as upscaler:
        upscaler(image)
    assert first.closed
    assert second.closed


@pytest.mark.parametrize("path", sample_images(), ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", [2, 4])
def test_photographs_enlarged_by_another_method_are_not_broken(path: Path, scale: int) -> None:
    photograph = read_rgb(path)[:200, :200]
    for top in range(0, 200, 50):
        tile = photograph[top : top + 50, :70]
        result = resize_bicubic(tile, tile.shape[0] * scale, tile.shape[1] * scale)
        assert not is_broken(tile, result)
        assert not is_broken(tile.astype(np.float32), result.astype(np.float32))
        # Night sky that became black may have been black.
        if tile.mean() > 12:
            assert is_broken(tile, np.zeros_like(result))
            assert is_broken(tile, np.full_like(result, 255))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4, 8]), st.integers(0, 255))
@settings(max_examples=80, deadline=None)
def test_noise_enlarged_by_repeating_is_not_broken_and_far_shifted_is(
    height: int, width: int, scale: int, seed: int
) -> None:
    tile = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    result = tile.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.float32)
    assert not is_broken(tile, result)
    assert is_broken(tile, result + 65)


@pytest.mark.parametrize(("sha256", "scale"), [("f", 2), ("0", 4)])
def test_another_network_never_rescues(
    sha256: str, scale: int, image: Pixels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = write_nearest(tmp_path / "n.onnx", scale=scale)
    model = onnx.load(tmp_path / "n.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: replace(info, checkpoint_sha256=sha256 * 64).to_json()})
    onnx.save(model, tmp_path / "n.onnx")
    # As on a GPU, which computes an fp16 graph in half precision.
    monkeypatch.setattr("drc_deploy.runtime.upscaler.open_backend", lambda path, threads, precision: HalfBackend())
    with Upscaler.open(tmp_path / "n.onnx") as upscaler, pytest.raises(ArtefactError, match="another checkpoint"):
        upscaler(image)


def test_an_fp16_onnx_on_the_cpu_is_its_own_float32(tmp_path: Path) -> None:
    """There the graph is computed in float32: a second session would give the same."""
    write_nearest(tmp_path / "n.onnx")
    with Upscaler.open(tmp_path / "n.onnx") as upscaler:
        upscaler(np.zeros((4, 4, 3), np.uint8))
        assert upscaler.networks.rescue.count == 0
