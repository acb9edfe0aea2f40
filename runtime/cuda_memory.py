"""The GPU through pycuda: its primary context, buffers with a pinned host side, and lanes in which batches travel.

The primary context is the one that TensorRT, ONNX Runtime and torch use too. It is made current only inside
``CudaDevice.current()``, so that neither another thread nor another library finds it changed.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.backend import Pixels


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """How long the parts of one call took, by events on the stream."""

    upload_ms: float
    compute_ms: float
    download_ms: float


def has_cuda_driver() -> bool:
    """Tell, without starting it, whether an NVIDIA driver is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


class CudaDevice:
    """The first GPU.

    Raises:
        MissingDependencyError: there is no pycuda, no working driver or no GPU.
    """

    def __init__(self) -> None:
        self.driver = _initialised_driver()
        self._device: Any = self.driver.Device(0)
        self._context: Any = self._device.retain_primary_context()
        self.name: str = self._device.name()
        major, minor = self._device.compute_capability()
        self.compute_capability = f"{major}.{minor}"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the primary context current for the block."""
        self._context.push()
        try:
            yield
        finally:
            self.driver.Context.pop()

    def close(self) -> None:
        """Release the primary context; everything allocated in it must be gone."""
        self._context.detach()


def _initialised_driver() -> ModuleType:
    """Import pycuda and start the driver, before anything else touches CUDA: TensorRT crashes without one."""
    try:
        import pycuda.driver
    except ImportError as error:
        raise MissingDependencyError(
            f"pycuda cannot be used here ({error})", "Install it on a machine with an NVIDIA driver."
        ) from error
    driver: ModuleType = pycuda.driver
    try:
        driver.init()
        count = driver.Device.count()
    except (RuntimeError, driver.Error) as error:
        raise MissingDependencyError(
            f"the NVIDIA driver does not work here ({error})", "Install the driver and reboot."
        ) from error
    if count == 0:
        raise MissingDependencyError("this machine has no NVIDIA GPU", "Use another machine.")
    return driver


class Buffer:
    """Memory on the GPU with a pinned array of the same shape on the host."""

    def __init__(self, driver: ModuleType, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._driver = driver
        self.host: Pixels = driver.pagelocked_empty(shape, np.dtype(dtype))
        self._device: Any = driver.mem_alloc(self.host.nbytes)

    @property
    def address(self) -> int:
        """Address on the GPU."""
        return int(self._device)

    def upload(self, count: int, stream: Any) -> None:
        """Queue the copy of the first ``count`` items to the GPU."""
        self._driver.memcpy_htod_async(self._device, self.host[:count], stream)

    def download(self, count: int, stream: Any) -> None:
        """Queue the copy of the first ``count`` items from the GPU."""
        self._driver.memcpy_dtoh_async(self.host[:count], self._device, stream)

    def free(self) -> None:
        """Give the GPU memory back now, not when Python gets to it."""
        self._device.free()


class Lane:
    """One batch on its way to the GPU, through the network and back: buffers, a stream, and the events that time it.

    Copies of one lane run beside the computation of another. Two computations must not: a network has its scratch
    memory once.
    """

    def __init__(
        self, driver: ModuleType, input_shape: tuple[int, ...], output_shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self.input = Buffer(driver, input_shape, dtype)
        self.output = Buffer(driver, output_shape, dtype)
        # TensorRT adds device-wide waits on the default stream.
        self._stream: Any = driver.Stream()
        self._marks: list[Any] = [driver.Event() for _ in range(4)]
        """Before the upload, before and after the computation, after the download."""

    def start(self, count: int, compute: Callable[[int], None], after: "Lane | None") -> None:
        """Queue upload, computation and download of the first ``count`` items of ``input.host``.

        Args:
            count: items.
            compute: queues the computation on the stream whose handle it is given.
            after: the lane whose computation was queued last.
        """
        uploaded, computed = self._marks[1:3]
        self._marks[0].record(self._stream)
        self.input.upload(count, self._stream)
        if after is not None and after is not self:
            self._stream.wait_for_event(after._marks[2])
        uploaded.record(self._stream)
        compute(self._stream.handle)
        computed.record(self._stream)
        self.output.download(count, self._stream)
        self._marks[3].record(self._stream)

    def wait(self) -> DeviceTimes:
        """Wait until ``output.host`` holds the results, and give the times between the marks."""
        self._marks[3].synchronize()
        times = [after.time_since(before) for before, after in pairwise(self._marks)]
        return DeviceTimes(*times)

    def free(self) -> None:
        """Give the GPU memory back."""
        self.input.free()
        self.output.free()
