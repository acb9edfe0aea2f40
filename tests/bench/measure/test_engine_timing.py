import dataclasses

import numpy as np
import pytest

from drc_deploy.bench.measure import engine_timing
from drc_deploy.bench.measure.engine_timing import EngineRound, EngineTimer, StreamRound, Workload
from drc_deploy.bench.measure.latency import summarise
from drc_deploy.bench.measure.measurement import summarise_network, summarise_streams
from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.runtime.backends.contract import DeviceTimes, Pixels
from drc_deploy.runtime.memory.host import MemoryBudget
from drc_deploy.runtime.tiling.tiles import plan_tiles
from tests.runtime.fake_backend import FakeBackend, fake_info

IMAGES = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20, 30)]


class WatchedBackend(FakeBackend):
    """Remembers the brightness of every batch, and has a device with events."""

    def __init__(self, tile: tuple[int, int] | None, max_batch: int = 1) -> None:
        super().__init__(fake_info(tile=tile, max_batch=max_batch))
        self.seen: list[int] = []

    @property
    def device_times(self) -> DeviceTimes | None:
        return DeviceTimes(1.0, float(len(self.seen)), 2.0, 0.5)

    def run(self, batch: Pixels) -> Pixels:
        self.seen.append(int(batch[0, 0, 0, 0]))
        return super().run(batch)


def timer(backend: FakeBackend) -> EngineTimer:
    return EngineTimer(backend, IMAGES, plan_tiles(20, 30, backend.info))


def test_different_images_take_turns() -> None:
    backend = WatchedBackend(None)
    found = timer(backend)
    backend.seen.clear()
    found.measure(TimingBudget(6, 0.0))
    assert sorted(backend.seen[:3]) == [10, 20, 30]
    assert backend.seen[:3] == backend.seen[3:6]


def test_an_image_in_tiles_is_timed_by_batch_and_whole() -> None:
    backend = WatchedBackend((16, 16), max_batch=2)
    found = timer(backend)
    assert found.describe() == Workload((2, 16, 16, 3), 2, 1)
    backend.calls.clear()
    measured = found.measure(TimingBudget(5, 0.0))
    assert len(measured.batch_ms) == len(measured.image_ms) == 5
    assert len(backend.calls) == 5 * found.describe().calls + 5 * 2


def test_events_are_read_after_each_run() -> None:
    backend = WatchedBackend(None)
    found = timer(backend)
    backend.seen.clear()
    times = found.measure(TimingBudget(4, 0.0)).device_times
    assert [item.compute_ms for item in times] == [1.0, 2.0, 3.0, 4.0]
    assert timer(FakeBackend(fake_info())).measure(TimingBudget(4, 0.0)).device_times == ()


def test_a_stream_counts_whole_images_and_fills_the_pipeline() -> None:
    backend = WatchedBackend((16, 16), max_batch=2)
    found = timer(backend)
    backend.calls.clear()
    stream = found.stream(0.0)
    assert len(backend.calls) == 1 + stream.images * 2 >= 9  # the first is not timed
    assert stream.seconds > 0


@pytest.mark.parametrize(("free_mib", "workers"), [(1 << 20, 8), (10, 3), (0, 1)])
def test_a_stream_keeps_within_the_memory_that_is_free(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, workers: int
) -> None:
    class ManyWorkers(FakeBackend):
        workers = 8

        def use_workers(self, count: int) -> None:
            self.workers = count

    # A tile of 600 pixels needs 600 * (5000 + 2 * 3 * 5) bytes, just under 3 MiB.
    backend = ManyWorkers(dataclasses.replace(fake_info(), cpu_bytes_per_pixel=5000))
    budget = MemoryBudget(limit=free_mib << 20, loaded=0)
    monkeypatch.setattr(engine_timing, "free_budget", lambda: budget)
    timer(backend).stream(0.0)
    assert backend.workers == workers


def engine(times: list[DeviceTimes], image_ms: float = 8.0) -> tuple[str, ...]:
    rounds = [EngineRound((4.0,), (image_ms,), tuple(times)) for _ in range(8)]
    split = summarise_network(Workload((1, 8, 8, 3), 2, 1), rounds, summarise([[10.0]] * 8)).split
    assert split is not None
    return split.checks


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (DeviceTimes(1.0, 10.0, 2.0, 0.5), []),
        (DeviceTimes(1.0, 10.0, 2.0, 8.5), ["host-bound"]),
        (DeviceTimes(10.0, 10.0, 2.0, 0.5), ["the upload takes"]),
        (DeviceTimes(1.0, 10.0, 11.0, 0.5), ["the download takes"]),
    ],
)
def test_the_checks_of_trtexec(times: DeviceTimes, words: list[str]) -> None:
    found = engine([times] * 5)
    assert len(found) == len(words)
    assert all(word in check for word, check in zip(words, found, strict=True))


@pytest.mark.parametrize(("deviation", "warned"), [(0.2, False), (0.3, True)])
def test_a_compute_time_that_varies_asks_for_locked_clocks(deviation: float, warned: bool) -> None:
    times = [DeviceTimes(1.0, 10.0 + sign * deviation, 1.0, 0.1) for sign in (-1, 1)]
    assert any("lock the clocks" in check for check in engine(times)) == warned


def test_what_is_not_the_network_is_the_host() -> None:
    rounds = [EngineRound((4.0, 4.0), (8.0,), ()) for _ in range(8)]
    found = summarise_network(Workload((1, 8, 8, 3), 2, 1), rounds, summarise([[10.0, 10.0]] * 8))
    assert found.host_share == pytest.approx(0.2)
    assert found.host_share_interval == pytest.approx((0.2, 0.2))
    assert found.split is None
    assert found.split_note.startswith("unavailable")


def test_throughput_is_images_and_output_pixels_by_time() -> None:
    found = summarise_streams([StreamRound(12, 0.5)] * 6, output_px=1_000_000, workers=3)
    assert found.images_per_second == pytest.approx(24.0)
    assert found.output_megapixels_per_second == pytest.approx(24.0)
    assert found.images_per_second_interval == pytest.approx((24.0, 24.0))
