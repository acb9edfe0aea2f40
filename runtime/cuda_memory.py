"""The GPU through pycuda: its primary context, buffers with a pinned host side, one stream and its clock.

The primary context is the one that TensorRT, ONNX Runtime and torch use too. It is made current only inside
``CudaDevice.current()``, so that neither another thread nor another library finds it changed.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


class StreamClock:
    """A stream and the events that time what is queued on it."""

    def __init__(self, driver: ModuleType) -> None:
        # TensorRT adds device-wide waits on the default stream.
        self.stream: Any = driver.Stream()
        self._events: list[Any] = [driver.Event() for _ in range(4)]

    def mark(self, index: int) -> None:
        """Queue the event: 0 before the upload, 1 and 2 around the computation, 3 after the download."""
        self._events[index].record(self.stream)

    def wait(self) -> DeviceTimes:
        """Wait for everything that is queued, and give the times between the marks."""
        self.stream.synchronize()
        times = [self._events[index + 1].time_since(self._events[index]) for index in range(3)]
        return DeviceTimes(*times)
