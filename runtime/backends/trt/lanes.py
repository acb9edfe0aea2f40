"""Lanes in which batches travel through the GPU: buffers with a pinned host side, a stream, and events.

How many of them fit, and with how large batches, is known before anything is allocated.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import DeviceTimes, GpuMemory, Pixels
from drc_deploy.runtime.backends.trt.plan import PlanTensor
from drc_deploy.runtime.memory.host import mib

MAX_LANES = 3
"""Batches on the GPU at a time: one that is uploaded, one that is computed, one that is downloaded."""
RESERVE_BYTES = 64 << 20
"""Left free for the driver and the library: kernels, streams, the states of contexts."""


def fit_lanes(
    free: int, engine: int, batches: Sequence[int], scratch: Callable[[int], int], io: Callable[[int], int]
) -> GpuMemory:
    """Choose the most lanes that fit; smaller batches only where one lane does not.

    Args:
        free: bytes that the GPU has left, with the engine loaded.
        engine: bytes that the engine takes.
        batches: sizes of batches that the plan can be run at, the largest first.
        scratch: returns the bytes that a computation of a batch of this size needs.
        io: returns the bytes of one lane's inputs and outputs for a batch of this size.

    Raises:
        ArtefactError: one lane with the smallest batch does not fit.
    """
    for batch in batches:
        for lanes in range(MAX_LANES, 0, -1):
            memory = GpuMemory(lanes, batch, engine, scratch(batch), lanes * io(batch))
            needed = memory.scratch + memory.io + RESERVE_BYTES
            if needed <= free:
                return memory
    raise ArtefactError(f"out of memory: the GPU has {free >> 20} MiB left, and at least {mib(needed)} MiB are needed")


def halves(largest: int) -> tuple[int, ...]:
    """Return ``largest`` and its halves down to 1."""
    return (largest, *halves(largest // 2)) if largest > 1 else (1,)


class Buffer:
    """Memory on the GPU with a pinned array of the same shape on the host."""

    def __init__(self, driver: ModuleType, shape: tuple[int, ...], dtype: str) -> None:
        self._driver = driver
        self.host: Pixels = driver.pagelocked_empty(shape, np.dtype(dtype))
        self.device: Any = driver.mem_alloc(self.host.nbytes)

    def upload(self, items: Pixels, stream: Any) -> None:
        """Copy ``items`` to the host side, and queue the copy of as many to the GPU."""
        host = self.host[: len(items)]
        np.copyto(host, items)
        self._driver.memcpy_htod_async(self.device, host, stream)

    def download(self, count: int, stream: Any) -> None:
        """Queue the copy of the first ``count`` items from the GPU."""
        self._driver.memcpy_dtoh_async(self.host[:count], self.device, stream)


class Lane:
    """One batch on its way to the GPU, through the network and back.

    Copies of one lane run during the computation of another. Two computations must not: all share one scratch memory.

    Attributes:
        inputs: By the name of the tensor.
        outputs: By the name of the tensor.
    """

    def __init__(
        self, driver: ModuleType, inputs: Mapping[str, PlanTensor], outputs: Mapping[str, PlanTensor], batch: int
    ) -> None:
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}
        try:
            for buffers, tensors in ((self.inputs, inputs), (self.outputs, outputs)):
                for name, tensor in tensors.items():
                    buffers[name] = Buffer(driver, tensor.at(batch), tensor.dtype)
        except BaseException:
            self.free()
            raise
        # TensorRT adds device-wide waits on the default stream.
        self._stream: Any = driver.Stream()
        self._marks: list[Any] = [driver.Event() for _ in range(4)]
        """Before the upload, before and after the computation, after the download."""
        self._enqueue_ms = 0.0

    @property
    def stream_handle(self) -> int:
        """Of the stream that everything of this lane runs on."""
        return int(self._stream.handle)

    @property
    def addresses(self) -> dict[str, int]:
        """Addresses on the GPU by the name of the tensor."""
        return {name: int(buffer.device) for name, buffer in {**self.inputs, **self.outputs}.items()}

    def start(
        self,
        feeds: Mapping[str, Pixels],
        downloads: Mapping[str, int],
        compute: Callable[[], None],
        after: "Lane | None",
    ) -> None:
        """Queue upload, computation and download.

        Args:
            feeds: for each input the items that it begins with.
            downloads: for each output that is wanted how many items.
            compute: queues the computation on this lane's stream.
            after: the lane whose computation was queued last.
        """
        before, uploaded, computed, downloaded = self._marks
        before.record(self._stream)
        for name, items in feeds.items():
            self.inputs[name].upload(items, self._stream)
        if after is not None and after is not self:
            self._stream.wait_for_event(after._marks[2])
        uploaded.record(self._stream)
        start = time.perf_counter_ns()
        compute()
        self._enqueue_ms = (time.perf_counter_ns() - start) / 1e6
        computed.record(self._stream)
        for name, count in downloads.items():
            self.outputs[name].download(count, self._stream)
        downloaded.record(self._stream)

    def wait(self) -> None:
        """Wait until the host sides of the outputs hold the results."""
        self._marks[3].synchronize()

    def finish(self) -> None:
        """Wait for all that was queued, also where not everything could be."""
        self._stream.synchronize()

    def times(self) -> DeviceTimes:
        """Return the times between the marks of a call that was waited for."""
        upload, compute, download = (after.time_since(before) for before, after in pairwise(self._marks))
        return DeviceTimes(upload, compute, download, self._enqueue_ms)

    def free(self) -> None:
        """Free the GPU memory."""
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.device.free()  # now, not when Python gets to it
        self.inputs, self.outputs = {}, {}
