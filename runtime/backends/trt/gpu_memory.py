"""The GPU through pycuda, in its primary context.

The primary context is the one that TensorRT, ONNX Runtime and torch use too. It is made current only inside
``CudaDevice.current()``, so that neither another thread nor another library finds it changed.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from drc_deploy.errors import MissingDependencyError
from drc_deploy.proc_files import colon_lines


def has_cuda_driver() -> bool:
    """Return whether an NVIDIA driver is installed, without starting it."""
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

    def free_bytes(self) -> int:
        """Return how much memory the GPU has left; the context must be current."""
        free, _ = self.driver.mem_get_info()
        if self._device.get_attribute(self.driver.device_attribute.INTEGRATED):
            # Where the GPU shares the host's memory, the cache of files counts as used, but is freed when needed.
            available = dict(colon_lines(Path("/proc/meminfo"))).get("MemAvailable", "0 kB")
            return max(int(free), int(available.split()[0]) * 1024)
        return int(free)

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
