"""Where the pixels of the photographs live, and how regions of them come to the training device."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AHEAD = 2
"""Steps whose regions are read in advance where pixels do not live on the device."""
SHARE_OF_MEMORY = 0.5
"""Of the GPU memory that is free before training: what photographs may take, so that training keeps the rest."""
CHUNK = 1 << 24
"""Pixels per copy to the device."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Rectangles of equal size: pixel (y, x) of number i is number ``rows[i, y] + columns[i, x]`` of all pixels."""

    rows: NDArray[np.int64]
    """(n, height)."""
    columns: NDArray[np.int64]
    """(n, width)."""


Plan = Callable[[int], Sequence[Regions]]
"""Step -> what it needs."""


class Reader:
    """Reads the regions of any step from pixels in main memory or mapped from a file, for a CPU that trains."""

    def __init__(self, pixels: NDArray[np.uint8], plan: Plan) -> None:
        self._pixels, self._plan = pixels, plan

    def read(self, step: int) -> list[Tensor]:
        """Return each of the step's regions as (n, height, width, 3) uint8 on the training device."""
        return [self._gather(regions) for regions in self._plan(step)]

    def close(self) -> None:
        """End what runs in the background: here nothing."""

    def _gather(self, regions: Regions) -> Tensor:
        return torch.from_numpy(self._pixels.take(regions.rows[:, :, None] + regions.columns[:, None, :], axis=0))


class StreamingReader(Reader):
    """Pixels on the host, read by a thread into pinned memory some steps ahead."""

    def __init__(self, pixels: NDArray[np.uint8], plan: Plan, device: torch.device) -> None:
        super().__init__(pixels, plan)
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._pending: dict[int, Future[list[Tensor]]] = {}

    def read(self, step: int) -> list[Tensor]:
        """Return the step's regions, and have those of the next steps read."""
        wanted = range(step, step + AHEAD + 1)
        for other in self._pending.keys() - set(wanted):
            self._pending.pop(other).cancel()
        for coming in wanted:
            if coming not in self._pending:
                self._pending[coming] = self._thread.submit(super().read, coming)
        # Copied by the thread that trains: on its stream the copy comes before what uses it, without an event.
        return [regions.to(self._device, non_blocking=True) for regions in self._pending.pop(step).result()]

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _gather(self, regions: Regions) -> Tensor:
        return _pinned(super()._gather(regions), self._device)


class ResidentReader(Reader):
    """Pixels in the memory of the device."""

    def __init__(self, pixels: NDArray[np.uint8], plan: Plan, device: torch.device) -> None:
        super().__init__(pixels, plan)
        self._device = device
        self._on_device = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(pixels), CHUNK):
            # A copy, because torch takes no array that must not be written, such as a mapped file.
            part = torch.from_numpy(pixels[start : start + CHUNK].copy())
            self._on_device[start : start + CHUNK] = part

    def _gather(self, regions: Regions) -> Tensor:
        rows, columns = to_device(regions.rows, self._device), to_device(regions.columns, self._device)
        index = rows[:, :, None] + columns[:, None, :]
        return self._on_device.index_select(0, index.flatten()).view(*index.shape, 3)


def open_reader(pixels: NDArray[np.uint8], plan: Plan, device: torch.device, *, stream: bool | None) -> Reader:
    """Choose where the pixels live.

    Args:
        pixels: (pixels, 3) uint8, in memory or mapped from a file.
        plan: What each step needs.
        device: Where the regions are wanted.
        stream: Keep the pixels where they are and read ahead; None: if they are too large for the device.
    """
    if stream is None:
        stream = device.type != "cpu" and pixels.nbytes > SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]
    if stream:
        return StreamingReader(pixels, plan, device)
    return Reader(pixels, plan) if device.type == "cpu" else ResidentReader(pixels, plan, device)


def to_device(array: NDArray[np.int64], device: torch.device) -> Tensor:
    """Copy a small array without waiting for what the device is doing."""
    return _pinned(torch.from_numpy(array), device).to(device, non_blocking=True)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" else tensor
