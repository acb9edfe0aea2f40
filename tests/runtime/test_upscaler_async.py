"""An upscaler among the tasks of an event loop: one image at a time, and none for nobody."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import ArtefactError, ImageError, UsageError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.upscaler import Upscaler
from tests.patience import PATIENCE_S
from tests.runtime.fake_backend import FakeBackend, fake_info

INFO = fake_info(receptive_field=2)


class Slow(FakeBackend):
    """Computes a tile when it is allowed to, and says when it has begun one."""

    def __init__(self) -> None:
        super().__init__(INFO)
        self.begun, self.allowed = threading.Semaphore(0), threading.Semaphore(0)

    def run(self, batch: Pixels) -> Pixels:
        self.begun.release()
        assert self.allowed.acquire(timeout=PATIENCE_S)
        return super().run(batch)


def noise(seed: int = 0, shape: tuple[int, ...] = (40, 30, 3)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


async def until_begun(backend: Slow) -> None:
    assert await asyncio.to_thread(backend.begun.acquire, timeout=PATIENCE_S)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_awaited_images_are_what_each_is_alone_and_wait_in_their_order() -> None:
    images = [noise(seed, shape) for seed, shape in enumerate([(40, 30, 3), (9, 50), (17, 17, 4), (30, 8, 3)] * 5)]
    ended: list[int] = []

    async def one(upscaler: Upscaler, number: int) -> Pixels:
        result = await upscaler.upscale_async(images[number])
        ended.append(number)
        return result

    async def main() -> None:
        with Upscaler(FakeBackend(INFO), tile=16) as upscaler:
            results = await asyncio.gather(*(one(upscaler, number) for number in range(len(images))))
        alone = Upscaler(FakeBackend(INFO), tile=16)
        assert all(np.array_equal(result, alone(image)) for image, result in zip(images, results, strict=True))
        assert ended == list(range(len(images)))

    run(main)


def test_other_tasks_go_on_meanwhile() -> None:
    backend = Slow()

    async def main() -> None:
        with Upscaler(backend) as upscaler:
            task = asyncio.create_task(upscaler.upscale_async(noise()))
            await until_begun(backend)
            await asyncio.sleep(0)
            assert not task.done()
            backend.allowed.release()
            assert (await task).shape == (80, 60, 3)

    run(main)


def test_a_cancelled_image_is_left_after_the_tiles_under_way_and_one_that_waits_is_not_begun() -> None:
    backend = Slow()

    async def main() -> None:
        with Upscaler(backend, tile=16) as upscaler:
            tasks = [asyncio.create_task(upscaler.upscale_async(noise(seed))) for seed in range(3)]
            await until_begun(backend)
            tasks[0].cancel()
            tasks[1].cancel()
            for task in tasks[:2]:
                with pytest.raises(asyncio.CancelledError):
                    await task
            for _ in range(1000):
                backend.allowed.release()
            alone = Upscaler(FakeBackend(INFO), tile=16)
            assert np.array_equal(await tasks[2], alone(noise(2)))
            assert len(backend.calls) == 1 + alone.plan(40, 30).tile_count

    run(main)


def test_errors_reach_the_task() -> None:
    async def main() -> None:
        upscaler = Upscaler(FakeBackend(INFO))
        with pytest.raises(ImageError, match="float32 samples"):
            await upscaler.upscale_async(noise().astype(np.float32))
        with pytest.raises(ArtefactError, match="8-bit samples only"):
            await upscaler.upscale_async(noise().astype(np.uint16))
        upscaler.close()
        with pytest.raises(UsageError, match="is closed"):
            await upscaler.upscale_async(noise())

    run(main)


def test_closing_ends_what_is_awaited_after_the_tiles_under_way() -> None:
    backend = Slow()

    async def main() -> None:
        upscaler = Upscaler(backend, tile=16)
        tasks = [asyncio.create_task(upscaler.upscale_async(noise(seed))) for seed in range(2)]
        await until_begun(backend)
        closing = asyncio.create_task(asyncio.to_thread(upscaler.close))
        while not upscaler._closed:
            await asyncio.sleep(0.001)
        assert not backend.closed
        for _ in range(1000):
            backend.allowed.release()
        for task in tasks:
            with pytest.raises(UsageError, match="is closed"):
                await task
        await closing
        assert backend.closed
        assert len(backend.calls) == 1

    run(main)
