"""Many images as one stream of tiles are what each of them is alone."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc_deploy.errors import ArtefactError, ImageError, UsageError
from drc_deploy.locate import find_engine
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.memory.host import MemoryBudget
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import write_nearest
from tests.runtime.tiling.test_memory_plan import INFO, LOADED, CpuBackend

SHAPES = [(9, 31, 3), (40, 50, 3), (40, 50), (12, 17, 2), (33, 20, 4)]


def noise(shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16] = np.uint8, seed: int = 0) -> Pixels:
    """Return an image whose every value is possible."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


@given(
    runs=st.lists(st.tuples(st.sampled_from(SHAPES), st.integers(1, 5), st.booleans()), max_size=4),
    tile=st.sampled_from([None, 16]),
)
@settings(deadline=None, max_examples=40)
def test_a_stream_gives_what_each_image_gives_alone(runs: list[tuple[tuple[int, ...], int, bool]], tile: int) -> None:
    images = [
        noise(shape, np.uint16 if deep else np.uint8, seed) for shape, count, deep in runs for seed in range(count)
    ]
    upscaler = Upscaler(FakeBackend(fake_info(io_dtype="float32", receptive_field=2)), tile=tile)
    results = list(upscaler.stream(images))
    assert len(results) == len(images)
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result, upscaler(image))


@pytest.mark.parametrize("engine", ["drn_es_r50", "nearest"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_frames_that_are_computed_at_a_time_come_in_order(engine: str, count: int, tmp_path: Path) -> None:
    """In torch and in ONNX Runtime, in tiles of several threads."""
    write_nearest(tmp_path / "n.onnx")
    path = tmp_path / "n.onnx" if engine == "nearest" else find_engine(engine, Path())
    frames = [noise((24, 20, 3), seed=number) for number in range(count)]
    with Upscaler.open(path, threads=3) as upscaler:
        results = list(upscaler.stream(frames))
        assert len(results) == count
        assert all(np.array_equal(result, upscaler(frame)) for frame, result in zip(frames, results, strict=True))


def test_few_images_are_taken_ahead_and_none_after_the_stream_is_left(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    taken: list[int] = []

    def frames() -> Iterator[Pixels]:
        for number in range(100):
            taken.append(number)
            yield noise((8, 8, 3), seed=number)

    with Upscaler.open(tmp_path / "n.onnx", threads=2) as upscaler:
        results = list(islice(upscaler.stream(frames()), 3))
        assert len(results) == 3
        assert len(taken) <= 3 + 2 * 2 + 1  # those under way, and one to see whether it has another size
        assert np.array_equal(upscaler(noise((8, 8, 3))), results[0])


@pytest.mark.parametrize("tile", [None, 16])
def test_images_are_let_go_when_their_result_has_come(tile: int | None) -> None:
    given: list[weakref.ref[Pixels]] = []

    def frames() -> Iterator[Pixels]:
        for number in range(60):
            image = noise((20, 24, 3), seed=number)
            given.append(weakref.ref(image))
            yield image
            del image

    upscaler = Upscaler(FakeBackend(fake_info()), tile=tile)
    for count, _ in enumerate(upscaler.stream(frames()), start=1):
        held = [number for number, image in enumerate(given) if image() is not None]
        assert len(held) <= 3, (count, held)  # one that is joined, one whose tiles are made, one to see its size


def test_memory_is_planned_for_all_images_under_way() -> None:
    """Where it is too little for eight frames, fewer or smaller tiles are computed at a time."""
    alone, stream = Images(256, 256), Images(256, 256, stream=True)
    needed = Upscaler(CpuBackend(INFO), budget=MemoryBudget(64 << 30, LOADED)).fit(alone).peak
    assert needed is not None
    backend = CpuBackend(INFO)
    upscaler = Upscaler(backend, budget=MemoryBudget(needed + (600 << 20), LOADED))
    assert upscaler.fit(alone).plan.tile_count == 1
    fitted = upscaler.fit(stream)
    assert fitted.peak is not None
    assert fitted.peak <= needed + (600 << 20)
    assert fitted.at_a_time < 8 or fitted.plan.tile_count > 1
    list(upscaler.stream([noise((256, 256, 3))] * 2))
    assert set(backend.calls) == {(1, *fitted.plan.tile, 3)}
    assert backend.used == fitted.workers


def test_what_is_no_image_ends_the_stream_there() -> None:
    upscaler = Upscaler(FakeBackend(fake_info()))
    results = upscaler.stream([noise((8, 8, 3)), noise((8, 8, 3)).astype(np.float32)])
    with pytest.raises(ImageError, match="float32 samples"):
        list(results)
    assert list(upscaler.stream([])) == []


def test_a_stream_ends_when_the_upscaler_is_closed() -> None:
    upscaler = Upscaler(FakeBackend(fake_info()))
    results = upscaler.stream([noise((8, 8, 3))] * 3)
    next(results)
    upscaler.close()
    with pytest.raises(UsageError, match="is closed"):
        next(results)


class Overflowing(FakeBackend):
    """Gives NaN for every other batch, as a network in half precision may."""

    def run(self, batch: Pixels) -> Pixels:
        result = super().run(batch)
        return result * np.float32(np.nan) if len(self.calls) % 2 else result


def test_frames_that_overflow_in_half_precision_are_computed_again() -> None:
    info = replace(fake_info(io_dtype="float32"), precision="fp16")
    frames = [noise((16, 16, 3), seed=number) // 2 + 60 for number in range(4)]
    with Upscaler(Overflowing(info), open_rescue=lambda: FakeBackend(info)) as upscaler:
        results = list(upscaler.stream(frames))
        assert upscaler.networks.rescue.count == 2
    for frame, result in zip(frames, results, strict=True):
        assert np.array_equal(result, frame.repeat(2, axis=0).repeat(2, axis=1))
    with Upscaler(Overflowing(info)) as upscaler, pytest.raises(ArtefactError, match="no image of that tile"):
        list(upscaler.stream(frames))
