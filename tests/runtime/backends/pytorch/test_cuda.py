"""Tiles on a GPU: lanes and replay, with a GPU and with a stand-in that does everything at once on the CPU."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from drc_deploy import torch_gpu
from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME, Precision
from drc_deploy.errors import ArtefactError
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.backends.pytorch import cuda as torch_cuda
from drc_deploy.runtime.backends.pytorch.cuda import CudaTiles, Replay
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
from tests.runtime.fake_backend import fake_info

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


class Recording:
    """A graph of one function: a replay computes it again and writes into the first result."""

    def __init__(self, run: Callable[[], torch.Tensor]) -> None:
        self._run, self.result, self.replays = run, run().clone(), 0
        self.result.fill_(-1)  # a recording computes nothing

    def replay(self) -> None:
        self.replays += 1
        self.result.copy_(self._run())


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    made: list[Recording] = []

    def record(run: Callable[[], torch.Tensor]) -> tuple[Recording, torch.Tensor]:
        made.append(Recording(run))
        return made[-1], made[-1].result

    monkeypatch.setattr(torch_cuda, "record", record)
    monkeypatch.setattr(torch_cuda, "warm_up", lambda run: run() is not None)
    return made


class Stream:
    def wait_event(self, event: Any) -> None:
        assert event.recorded


class Event:
    recorded = False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded


class Doubling:
    """Enlarges by 2 and adds 1; refuses what is too large, as torch does."""

    device, name = torch.device("cpu"), "torch double"
    info = fake_info(io_dtype="float32")

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        if tiles.shape[1] > 50:
            raise RuntimeError("CUDA out of memory")
        return tiles.repeat_interleave(2, 1).repeat_interleave(2, 2) + 1


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch, recordings: list[Recording]) -> CudaTiles:
    @contextmanager
    def stream(_stream: Stream) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    return CudaTiles(Doubling())  # type: ignore[arg-type]


def streamed(tiles: CudaTiles, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for (result,) in tiles.stream([OUTPUT_NAME], ({INPUT_NAME: given} for given in batches)):
        yield result


def batch(value: float, side: int = 4) -> np.ndarray:
    return np.full((1, side, side + 1, 3), value, np.float32)


@pytest.mark.parametrize("sides", [[], [4], [4] * 9, [4, 4, 5, 5, 5, 4, 6, 4, 4]])
def test_a_stream_returns_every_result_in_order(tiles: CudaTiles, sides: list[int]) -> None:
    batches = [batch(index, side) for index, side in enumerate(sides)]
    for _ in range(2):  # the second time in the buffers of the first
        results = list(streamed(tiles, iter(batches)))
        assert len(results) == len(batches)
        for given, result in zip(batches, results, strict=True):
            assert np.array_equal(result, given.repeat(2, 1).repeat(2, 2) + 1)


def test_batches_are_taken_ahead_as_many_as_there_are_lanes(tiles: CudaTiles) -> None:
    taken: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for index in range(6):
            taken.append(index)
            yield batch(index)

    results = tiles.stream([OUTPUT_NAME], ({INPUT_NAME: given} for given in batches()))
    next(results)
    assert len(taken) == torch_cuda.LANES + 1
    results.close()
    assert np.array_equal(next(streamed(tiles, [batch(7)])), np.full((1, 8, 10, 3), 8))


def test_a_batch_that_the_gpu_refuses_is_an_error_and_others_go_on(tiles: CudaTiles) -> None:
    with pytest.raises(ArtefactError, match="out of memory"):
        list(streamed(tiles, [batch(1), batch(2, side=51)]))
    (result,) = tiles.run([OUTPUT_NAME], {INPUT_NAME: batch(3)})
    assert result[0, 0, 0, 0] == 4


def test_the_second_pass_over_a_shape_is_recorded_and_others_are_not(recordings: list[Recording]) -> None:
    replay = Replay(Doubling())
    for value in (1.0, 2.0, 3.0, 4.0):
        assert (replay(torch.full((1, 4, 4, 3), value)) == value + 1).all()
    assert [recording.replays for recording in recordings] == [3]
    for side in (5, 6, 5, 6):
        assert (replay(torch.full((1, side, 4, 3), 1.0)) == 2).all()
    assert len(recordings) == 1


def test_what_torch_says_of_its_search_for_waits_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = [0]

    def set_mode(mode: object) -> None:
        if len(modes) == 1:  # as torch does, once in a process
            warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=2)
        modes.append(mode)

    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with torch_gpu.waiting_refused():
        assert modes == [0, "error"]
    assert modes == [0, "error", 0]


def test_a_network_that_waits_for_the_gpu_is_launched(
    recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_cuda, "warm_up", lambda _run: False)
    replay = Replay(Doubling())
    for value in (1.0, 2.0, 3.0, 4.0):
        assert (replay(torch.full((1, 4, 4, 3), value)) == value + 1).all()
    assert not recordings


class Waiting(torch.nn.Module):
    """A network that looks at a value of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.max()) > 0 else x


@needs_gpu
@pytest.mark.gpu
def test_a_gpu_says_which_networks_can_be_recorded() -> None:
    numbers = torch.ones(1, 3, 8, 8, device="cuda")
    assert not torch_gpu.warm_up(lambda: Waiting()(numbers))
    assert not torch_gpu.warm_up(lambda: numbers * torch.tensor([[[[2.0]]]], device="cuda"))
    assert torch_gpu.warm_up(lambda: torch.nn.functional.relu(numbers) * 2)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "most"), [("fp32", 0.02), ("fp16", 1.0)])
def test_a_gpu_computes_the_same_as_a_cpu(precision: Precision, most: float) -> None:
    random = np.random.default_rng(0)
    batches = [random.uniform(0, 255, (1, side, 40, 3)).astype(np.float32) for side in (32, 32, 32, 24, 24, 32, 32)]
    network = TileNetwork(SHIPPED / "drn_xs.safetensors", precision)
    reference = TileNetwork(SHIPPED / "drn_xs.safetensors", "fp32").network.cpu()
    for given, result in zip(batches, streamed(CudaTiles(network), batches), strict=True):
        with torch.inference_mode():
            expected = reference.upscale(torch.from_numpy(given).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert np.abs(result - expected.numpy()).max() < most
