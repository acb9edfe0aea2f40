import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drc_deploy.engine_info import METADATA_KEY, IoDtype
from drc_deploy.errors import ArtefactError, ImageError, UsageError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest, write_box, write_nearest


def noise(*shape: int, dtype: type[np.unsignedinteger[Any]] = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    reach=st.integers(0, 3),
    extra=st.integers(0, 4),
    middle=st.integers(1, 12),
    io_dtype=st.sampled_from(["uint8", "float32"]),
)
@settings(max_examples=60, deadline=None)
def test_tiles_of_a_local_network_equal_the_whole(
    size: tuple[int, int], reach: int, extra: int, middle: int, io_dtype: IoDtype
) -> None:
    image, overlap = noise(*size, 3), reach + extra
    info = fake_info(receptive_field=reach, io_dtype=io_dtype)
    whole = Upscaler(FakeBackend(info))(image)
    tiled = Upscaler(FakeBackend(info), tile=2 * overlap + middle, overlap=overlap)(image)
    assert np.array_equal(whole, tiled)


def test_two_by_two_fixed_tiles_in_batches_equal_the_whole() -> None:
    image = noise(50, 60, 3)
    whole = Upscaler(FakeBackend(fake_info(receptive_field=4)))(image)
    backend = FakeBackend(fake_info(receptive_field=4, tile=(32, 40), max_batch=2))
    assert np.array_equal(Upscaler(backend)(image), whole)
    assert backend.calls == [(2, 32, 40, 3)] * 2


def test_without_overlap_a_network_that_sees_its_neighbours_shows_seams() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    info = fake_info(receptive_field=2)
    whole = Upscaler(FakeBackend(info))(image)
    assert not np.array_equal(Upscaler(FakeBackend(info), tile=20, overlap=0)(image), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 1, 1), (5, 4, 2), (70, 50, 3), (33, 40, 4)])
def test_type_and_channels_stay_and_sides_are_scaled(
    shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]
) -> None:
    result = Upscaler(FakeBackend(fake_info(tile=(24, 24), io_dtype="float32")))(noise(*shape, dtype=dtype))
    assert result.shape == (2 * shape[0], 2 * shape[1], *shape[2:])
    assert result.dtype == dtype


def test_every_16_bit_value_survives_the_way_through_float() -> None:
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    result = Upscaler(FakeBackend(fake_info(scale=1, io_dtype="float32")))(image)
    assert np.array_equal(result, image)


def test_grey_comes_back_as_the_network_made_it() -> None:
    image = noise(20, 30)
    assert np.array_equal(Upscaler(FakeBackend(fake_info()))(image), nearest(image, 2))


def test_constant_alpha_costs_no_run_and_stays() -> None:
    image = noise(8, 8, 4)
    image[:, :, 3] = 255
    backend = FakeBackend(fake_info())
    upscaler = Upscaler(backend)
    assert (upscaler(image)[:, :, 3] == 255).all()
    assert len(backend.calls) == upscaler.task(image).tile_count == 1


def test_colours_hidden_under_alpha_zero_do_not_bleed() -> None:
    image = np.zeros((20, 20, 4), np.uint8)
    image[:, :10] = (200, 100, 50, 255)  # black under the transparent half
    result = Upscaler(FakeBackend(fake_info(receptive_field=2)))(image)
    visible = result[8:32, 8:20]  # away from the border of the image, where the network sees zeros
    assert (visible[:, :, :3] == (200, 100, 50)).all()


def test_opaque_and_transparent_areas_stay_exactly_so() -> None:
    class Dimming(FakeBackend):
        def run(self, batch: Pixels) -> Pixels:
            return np.clip(super().run(batch), 3, 252)

    image = noise(20, 20, 4)
    image[:, :10, 3], image[:, 10:, 3] = 0, 255
    alpha = Upscaler(Dimming(fake_info(tile=(12, 12))), overlap=2)(image)[:, :, 3]
    assert (alpha[:, :18] == 0).all()
    assert (alpha[:, 22:] == 255).all()


def test_strips_follow_each_other_and_none_is_as_high_as_the_image() -> None:
    image = noise(200, 20, 3)
    upscaler = Upscaler(FakeBackend(fake_info(tile=(32, 32), receptive_field=2)))
    done: list[int] = []
    strips = list(upscaler.strips(image, done.append))
    assert np.array_equal(np.concatenate(strips), upscaler(image))
    assert max(len(strip) for strip in strips) <= 2 * 32
    assert sum(done) == upscaler.task(image).tile_count


def test_values_outside_the_range_are_clipped_and_halves_go_up() -> None:
    class Odd(FakeBackend):
        def run(self, batch: Pixels) -> Pixels:
            result: Pixels = np.array([-7.0, 0.5, 254.49, 254.5, 300.0, 1.5], np.float32)
            return np.broadcast_to(result[None, None, :, None], (1, 1, 6, 3))

    image = np.zeros((1, 6, 3), np.uint8)
    assert Upscaler(Odd(fake_info(scale=1, io_dtype="float32")))(image)[0, :, 0].tolist() == [0, 1, 254, 255, 255, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_an_error_and_never_a_black_image(tmp_path: Path, value: float) -> None:
    write_box(tmp_path / "bad.onnx", value=value)
    with Upscaler.open(tmp_path / "bad.onnx") as upscaler, pytest.raises(ArtefactError, match="NaN or infinity"):
        upscaler(noise(8, 8, 3))


def test_a_16_bit_image_uses_the_float_engine_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_nearest(tmp_path / "n.onnx")
    write_nearest(tmp_path / "n.float.onnx", io_dtype="float32")
    image = noise(9, 7, 3, dtype=np.uint16)
    with caplog.at_level(logging.WARNING), Upscaler.open(tmp_path / "n.onnx") as upscaler:
        assert np.array_equal(upscaler(image), nearest(image, 4))
    assert "n.float.onnx" in caplog.text


@pytest.mark.parametrize("change", [{"checkpoint_sha256": "f" * 64}, {"scale": 2}], ids=str)
def test_a_16_bit_image_never_comes_from_another_network(tmp_path: Path, change: dict[str, Any]) -> None:
    write_nearest(tmp_path / "n.onnx")
    write_nearest(tmp_path / "n.float.onnx", scale=change.get("scale", 4), io_dtype="float32")
    say_of(tmp_path / "n.float.onnx", change)
    with (
        Upscaler.open(tmp_path / "n.onnx") as upscaler,
        pytest.raises(ArtefactError, match=r"n\.float\.onnx was made from another checkpoint than .*n\.onnx"),
    ):
        upscaler(noise(4, 4, dtype=np.uint16))


def say_of(path: Path, change: dict[str, Any]) -> None:
    """Change the metadata of an ONNX file."""
    model = onnx.load(path)
    fields = {**json.loads(model.metadata_props[0].value), **change}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(fields)})
    onnx.save(model, path)


def test_a_16_bit_image_without_a_float_engine_is_refused(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    with Upscaler.open(tmp_path / "n.onnx") as upscaler, pytest.raises(ArtefactError) as caught:
        upscaler(noise(9, 7, 3, dtype=np.uint16))
    assert "n.float.onnx does not exist" in caught.value.message
    assert "drc-deploy export" in caught.value.hint


@pytest.mark.parametrize("shape", [(0, 4, 3), (4,), (4, 4, 5), (2, 2, 2, 2)])
def test_an_array_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="is not an image"):
        Upscaler(FakeBackend(fake_info()))(np.zeros(shape, np.uint8))


def test_float_samples_are_refused() -> None:
    with pytest.raises(ImageError, match="float32 samples"):
        Upscaler(FakeBackend(fake_info()))(np.zeros((4, 4), np.float32))


def test_a_wrong_tile_is_refused_when_the_engine_is_opened() -> None:
    with pytest.raises(UsageError, match="tiles of 8x8 only"):
        Upscaler(FakeBackend(fake_info(tile=(8, 8))), tile=9)


def test_an_overlap_without_room_for_a_middle_is_refused_when_the_engine_is_opened() -> None:
    with pytest.raises(UsageError, match="no middle left"):
        Upscaler(FakeBackend(fake_info()), tile=32, overlap=16)


def test_closing_closes_the_network() -> None:
    backend = FakeBackend(fake_info())
    with Upscaler(backend):
        pass
    assert backend.closed
