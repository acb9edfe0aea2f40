"""Tiles through torch on an NVIDIA GPU: pinned buffers, copies during the computation, and that as a CUDA graph."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from drc_deploy.engine_info import INPUT_NAME
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds, GraphRunner
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork, errors_named
from drc_deploy.torch_gpu import record, warm_up

LANES = 3
"""Batches on the GPU at a time: one that is uploaded, one that is computed, one that is downloaded."""

Network = Callable[[Tensor], Tensor]


class Replay:
    """A network whose passes over one shape are recorded in the second of them, and replayed from then on.

    Not in the first: a recording costs several passes, and images that are upscaled whole rarely have one size twice.
    Only the latest shape is kept, since a recording holds the memory of its activations.
    """

    def __init__(self, network: Network) -> None:
        self._network, self._recordable = network, True
        self._shape: tuple[int, ...] = ()
        self._graph: Any = None
        self._input: Any = None
        self._output: Any = None

    def __call__(self, tiles: Tensor) -> Tensor:
        """Run ``network``; the next call of the same shape may write over the result."""
        if tuple(tiles.shape) != self._shape:
            self._graph = self._input = self._output = None
            self._shape = tuple(tiles.shape)
            return self._network(tiles)
        if self._recordable and self._graph is None:
            self._input = tiles.clone()
            run = partial(self._network, self._input)
            self._recordable = warm_up(run)
            if self._recordable:
                self._graph, self._output = record(run)
        if not self._recordable:
            return self._network(tiles)
        self._input.copy_(tiles)
        self._graph.replay()
        output: Tensor = self._output
        return output


class _Lane:
    """One batch on its way to the GPU, through the network and back."""

    def __init__(self, shape: tuple[int, ...], scale: int, device: torch.device) -> None:
        count, height, width, channels = shape
        self.shape, pinned = shape, device.type == "cuda"
        large = (count, scale * height, scale * width, channels)
        self._input, self._output = (torch.empty(size, device=device) for size in (shape, large))
        self._host_input, self._host_output = (torch.empty(size, pin_memory=pinned) for size in (shape, large))
        self._copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._uploaded, self._computed, self._done = (torch.cuda.Event() for _ in range(3))  # type: ignore[no-untyped-call]

    def start(self, batch: Pixels, network: Network, computing: Any) -> None:
        """Queue upload, computation and download; computations of all lanes follow each other on ``computing``."""
        self._host_input.copy_(torch.from_numpy(batch))
        with torch.cuda.stream(self._copies):
            self._input.copy_(self._host_input, non_blocking=True)
            self._uploaded.record()
        with torch.cuda.stream(computing):
            computing.wait_event(self._uploaded)
            self._output.copy_(network(self._input))
            self._computed.record()
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(self._computed)
            self._host_output.copy_(self._output, non_blocking=True)
            self._done.record()

    def result(self) -> Pixels:
        """Wait for the batch, and return its result."""
        self._done.synchronize()
        result: Pixels = self._host_output.numpy().copy()
        return result


class CudaTiles(GraphRunner):
    """Runs batches of tiles, one at a time, which has all of the GPU."""

    def __init__(self, network: TileNetwork) -> None:
        self.device, self.workers = network.name, 1
        self._info, self._gpu, self._network = network.info, network.device, Replay(network)
        self._computing = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._lanes: list[_Lane] = []

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Upscale a batch; see ``GraphRunner.run``."""
        (result,) = self.stream(outputs, [feeds])
        return result

    def stream(self, outputs: Sequence[str], many: Iterable[Feeds]) -> Generator[list[Pixels], None, None]:
        """Compute many feeds, see ``GraphRunner.stream``: one is computed while its neighbours are copied."""
        free, busy = self._lanes, deque[_Lane]()
        self._lanes = []
        try:
            for feeds in many:
                if len(busy) == LANES:
                    free.append(busy[0])
                    yield [self._result(busy.popleft())]
                busy.append(self._start(free.pop() if free else None, feeds[INPUT_NAME]))
            while busy:
                free.append(busy[0])
                yield [self._result(busy.popleft())]
        finally:
            # What is on its way must have arrived before the buffers are used for something else.
            for lane in busy:
                self._result(lane)
            self._lanes = free + list(busy)

    def _start(self, lane: _Lane | None, batch: Pixels) -> _Lane:
        """Queue the way of a batch, in a free lane where there is one of its shape."""
        with torch.inference_mode(), errors_named(self._info, batch.shape):
            if lane is None or lane.shape != batch.shape:
                lane = _Lane(batch.shape, self._info.scale, self._gpu)
            lane.start(batch, self._network, self._computing)
        return lane

    def _result(self, lane: _Lane) -> Pixels:
        with errors_named(self._info, lane.shape):
            return lane.result()
