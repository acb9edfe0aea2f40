"""Frames of a camera: late ones are dropped or waited for, and each result is that of its frame and no other."""

import threading
import time
import tracemalloc
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drc_deploy.errors import ImageError, UsageError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.live import LiveFrame
from drc_deploy.runtime.upscaler import Upscaler
from tests.patience import PATIENCE_S
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest, write_nearest

SHAPES = [(8, 9, 3), (20, 12, 3), (16, 16)]


def frame(number: int, shape: tuple[int, ...] = (8, 9, 3)) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


class Camera:
    """Gives frames as fast as they are taken, all of one size in one array; knows how many, and when it is closed."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        self.shapes, self.given, self.closed_by = shapes, 0, ""
        self._arrays = {shape: np.zeros(shape, np.uint8) for shape in shapes}

    def frames(self) -> Generator[Pixels, None, None]:
        try:
            for number, shape in enumerate(self.shapes):
                self._arrays[shape][:] = frame(number, shape)
                self.given = number + 1
                yield self._arrays[shape]
        finally:
            self.closed_by = threading.current_thread().name


class Behind(FakeBackend):
    """A network so slow that a camera gives ten frames while it computes one."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(fake_info(receptive_field=1))
        self._camera = camera

    def run(self, batch: Pixels) -> Pixels:
        last = min(self._camera.given + 10, len(self._camera.shapes))
        until(lambda: self._camera.given >= last)
        return super().run(batch)


def until(condition: Any) -> None:
    """Wait for another thread."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def assert_each_is_its_own(results: list[LiveFrame], camera: Camera) -> None:
    alone = Upscaler(FakeBackend(fake_info(receptive_field=1)))
    for result in results:
        assert np.array_equal(result.pixels, alone(frame(result.index, camera.shapes[result.index])))


def assert_no_thread_is_left() -> None:
    until(lambda: all(thread.name != "frames" for thread in threading.enumerate()))


@given(shapes=st.lists(st.sampled_from(SHAPES), max_size=80), waiting=st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_the_newest_frames_of_a_camera_that_is_too_fast_are_upscaled(
    shapes: list[tuple[int, ...]], waiting: int
) -> None:
    camera = Camera(shapes)
    upscaler = Upscaler(Behind(camera))
    results = list(upscaler.live(camera.frames(), waiting=waiting))
    indices = [result.index for result in results]
    assert indices == sorted(set(indices))
    assert indices[-1:] == ([len(shapes) - 1] if shapes else [])
    # One of ten, and in the end those that wait or were taken before.
    assert len(results) <= len(shapes) // 10 + waiting + 3
    assert_each_is_its_own(results, camera)
    assert camera.closed_by == "frames"


@pytest.mark.parametrize("waiting", [1, 2, 5])
def test_the_oldest_of_those_that_wait_are_dropped(waiting: int) -> None:
    camera = Camera([SHAPES[0]] * 40)

    class UntilTheEnd(FakeBackend):
        def run(self, batch: Pixels) -> Pixels:
            until(lambda: camera.closed_by)
            return super().run(batch)

    results = Upscaler(UntilTheEnd(fake_info())).live(camera.frames(), waiting=waiting)
    first, *others = (result.index for result in results)  # the first is taken at once, or a moment later
    assert others == [index for index in range(40 - waiting, 40) if index > first]


@given(shapes=st.lists(st.sampled_from(SHAPES), max_size=40), waiting=st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_without_dropping_every_frame_has_its_result(shapes: list[tuple[int, ...]], waiting: int) -> None:
    camera = Camera(shapes)
    results = list(
        Upscaler(FakeBackend(fake_info(receptive_field=1))).live(camera.frames(), waiting=waiting, drop=False)
    )
    assert [result.index for result in results] == list(range(len(shapes)))
    assert_each_is_its_own(results, camera)


def test_without_dropping_reading_waits() -> None:
    camera = Camera([SHAPES[0]] * 50)
    with closing(Upscaler(FakeBackend(fake_info())).live(camera.frames(), waiting=3, drop=False)) as results:
        for taken, _ in enumerate(results, start=1):
            time.sleep(0.001)
            assert camera.given <= taken + 3 + 2  # one that is to be the next to wait, and one to see its size


@pytest.mark.parametrize("drop", [True, False])
def test_memory_is_that_of_the_frames_that_may_wait(drop: bool) -> None:
    camera = Camera([(500, 500, 3)] * 60)
    backend = Behind(camera) if drop else FakeBackend(fake_info())
    tracemalloc.start()
    try:
        for _ in Upscaler(backend, tile=100).live(camera.frames(), waiting=2, drop=drop):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 500 * 500 * 3 * 4  # results are four times as large; all frames would take 60 such


def test_a_result_does_not_wait_for_the_next_frame(tmp_path: Path) -> None:
    """Also where the network takes some frames ahead."""
    write_nearest(tmp_path / "n.onnx")
    seen = threading.Semaphore(0)

    def frames() -> Iterator[Pixels]:
        for number in range(5):
            yield frame(number)
            assert seen.acquire(timeout=PATIENCE_S)

    with Upscaler.open(tmp_path / "n.onnx", threads=3) as upscaler:
        for number, result in enumerate(upscaler.live(frames(), waiting=4)):
            assert result.index == number
            assert np.array_equal(result.pixels, nearest(frame(number), 4))
            seen.release()


@pytest.mark.parametrize("drop", [True, False])
def test_leaving_early_closes_the_source(drop: bool) -> None:
    closed: list[str] = []

    def frames() -> Iterator[Pixels]:
        try:
            yield from map(frame, count())
        finally:
            closed.append(threading.current_thread().name)

    upscaler = Upscaler(FakeBackend(fake_info()))
    with closing(upscaler.live(frames(), drop=drop)) as results:
        next(results)
        assert not closed
    assert closed == ["frames"]
    assert_no_thread_is_left()
    assert upscaler(frame(0)).shape == (16, 18, 3)


@pytest.mark.parametrize("given", [0, 1, 7])
@pytest.mark.parametrize("drop", [True, False])
def test_what_the_source_raises_comes_after_its_last_frame(given: int, drop: bool) -> None:
    def frames() -> Iterator[Pixels]:
        yield from map(frame, range(given))
        raise ConnectionError("the camera is gone")

    seen: list[int] = []

    def see_all() -> None:
        for result in Upscaler(FakeBackend(fake_info())).live(frames(), drop=drop):
            seen.append(result.index)

    with pytest.raises(ConnectionError, match="the camera is gone"):
        see_all()
    assert seen[-1:] == ([given - 1] if given else [])
    assert_no_thread_is_left()


def test_what_is_no_image_ends_it_and_closes_the_source() -> None:
    camera = Camera([SHAPES[0]] * 3)

    def frames() -> Iterator[Any]:
        yield from camera.frames()
        yield "no image"
        yield from map(frame, count())

    with pytest.raises(ImageError, match="of type str"):
        list(Upscaler(FakeBackend(fake_info())).live(frames(), drop=False))
    assert camera.closed_by == "frames"
    assert_no_thread_is_left()


@pytest.mark.parametrize("waiting", [0, -1, 1.5, None, "2"])
def test_an_impossible_bound_is_refused_before_anything_is_read(waiting: Any) -> None:
    camera = Camera([SHAPES[0]])
    with pytest.raises(UsageError, match="waiting is"):
        Upscaler(FakeBackend(fake_info())).live(camera.frames(), waiting=waiting)
    assert camera.given == 0


def test_nothing_is_read_before_the_first_result_is_asked_for() -> None:
    camera = Camera([SHAPES[0]])
    results = Upscaler(FakeBackend(fake_info())).live(camera.frames())
    time.sleep(0.01)
    assert camera.given == 0
    results.close()
    assert_no_thread_is_left()
