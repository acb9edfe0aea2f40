"""Tiles of many images through one network: each image gets its own, together with the others."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.service.shared_backend import SharedBackend, TileQueue
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info

INFO = fake_info(receptive_field=2)


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Return an RGB image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_many_images_at_a_time_are_what_each_is_alone() -> None:
    images = [noise(20 + 7 * (seed % 5), 30 + seed, seed) for seed in range(40)]
    backend = FakeBackend(replace(INFO, max_batch=4))
    queue = TileQueue(backend)
    with ThreadPoolExecutor(8) as pool:
        upscalers = [Upscaler(SharedBackend(backend, queue), tile=16) for _ in images]
        results = list(pool.map(Upscaler.__call__, upscalers, images))
    queue.close()
    alone = Upscaler(FakeBackend(INFO), tile=16)
    assert all(np.array_equal(result, alone(image)) for image, result in zip(images, results, strict=True))


class Gated(FakeBackend):
    """Begins to compute when it is allowed to, and remembers what it was given in one stream."""

    def __init__(self, max_batch: int) -> None:
        super().__init__(replace(INFO, max_batch=max_batch))
        self.gate, self.streams = threading.Event(), list[list[int]]()

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        self.gate.wait(10)
        listed = list(batches)
        self.streams.append([len(batch) for batch in listed])
        return map(self.run, listed)


def test_tiles_of_several_images_go_into_one_batch() -> None:
    backend = Gated(max_batch=4)
    queue = TileQueue(backend)
    futures = [queue.submit(noise(side, 16)[None]) for side in (16, 16, 16, 16, 16, 20, 16)]
    backend.gate.set()
    assert [future.result(10).shape[1] for future in futures] == [32, 32, 32, 32, 32, 40, 32]
    queue.close()
    assert backend.streams == [[4, 1, 1, 1]]


def test_a_large_image_does_not_keep_a_small_one_waiting() -> None:
    """It has some tiles queued at a time, whatever it has in all."""
    backend = Gated(max_batch=1)
    queue = TileQueue(backend)
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(Upscaler(SharedBackend(backend, queue), tile=16, overlap=0), noise(160, 160))
        while not backend.calls and not queue._calls.qsize():
            pass
        small = queue.submit(noise(16, 16)[None])
        backend.gate.set()
        small.result(10)
        assert len(backend.calls) < 20  # of the 101 tiles in all
        assert large.result(10).shape == (320, 320, 3)
    queue.close()


class Failing(FakeBackend):
    """Fails for tiles that begin with black."""

    def run(self, batch: Pixels) -> Pixels:
        if (batch[:, 0, 0] == 0).all():
            raise ArtefactError("the network has failed.", "Start it again.")
        return super().run(batch)


def test_a_network_that_fails_fails_for_who_waits_and_goes_on_for_the_next() -> None:
    backend = Failing(INFO)
    queue = TileQueue(backend)
    upscaler = Upscaler(SharedBackend(backend, queue))
    with pytest.raises(ArtefactError, match="has failed"):
        upscaler(np.zeros((8, 8, 3), np.uint8))
    assert upscaler(noise(8, 8) | 1).shape == (16, 16, 3)
    queue.close()


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_failure_at_any_time_is_an_answer_for_all_that_wait(after: int) -> None:
    class FailingStream(Gated):
        def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
            self.gate.wait(10)
            for number, batch in enumerate(batches if after else ()):
                yield self.run(batch)
                if number + 1 == after:
                    break
            raise ArtefactError("the network has failed.", "Start it again.")

    backend = FailingStream(max_batch=2)
    queue = TileQueue(backend)
    futures = [queue.submit(noise(side, 16)[None]) for side in (16, 16, 20, 16, 24, 24)]
    backend.gate.set()
    errors = [future.exception(10) for future in futures]
    queue.close()
    assert all(error is None or isinstance(error, ArtefactError) for error in errors)
    assert sum(error is None for error in errors) >= after
    assert any(errors)


class Losing(FakeBackend):
    """Loses a result, as an engine with wrong metadata may."""

    lost = False

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        results = list(map(self.run, batches))
        if not self.lost:
            self.lost = True
            return iter(results[1:])
        return iter(results)


def test_a_result_that_is_lost_is_nobody_elses() -> None:
    backend = Losing(INFO)
    queue = TileQueue(backend)
    with pytest.raises(ArtefactError, match="no result for 1 tiles"):
        queue.submit(noise(16, 16, 1)[None]).result(10)
    other = noise(16, 16, 2)
    assert np.array_equal(queue.submit(other[None]).result(10)[0], Upscaler(FakeBackend(INFO))(other))
    queue.close()


def test_tiles_of_an_image_that_is_given_up_are_not_computed() -> None:
    backend = Gated(max_batch=1)
    queue = TileQueue(backend)
    first = queue.submit(noise(16, 16)[None])
    while not first.running():
        pass
    strips = SharedBackend(backend, queue).stream(noise(16, 16, seed)[None] for seed in range(50))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, strips)
        backend.gate.set()
        waiting.result(10)
    strips.close()
    queue.close()
    assert len(backend.calls) <= 2 + 2 * queue.ahead
