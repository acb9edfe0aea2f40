"""A pycuda that keeps its memory in NumPy, and does queued work only when its stream is waited for.

Every call checks that a context is current, as the real driver does.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


class FakeError(Exception):
    """``pycuda.driver.Error``."""


class FakeCuda:
    """The state of the fake GPU, and the parts of ``pycuda.driver`` as attributes."""

    def __init__(self, *, devices: int = 1, broken: str = "", capability: tuple[int, int] = (8, 7)) -> None:
        self.devices, self.broken, self.capability = devices, broken, capability
        self.depth = 0
        self.retained = 0
        self.memory: dict[int, bytearray] = {}
        self.streams: dict[int, FakeStream] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put this in the place of ``pycuda`` for one test."""
        package, driver = types.ModuleType("pycuda"), types.ModuleType("pycuda.driver")
        content = {
            "init": self._init,
            "Error": FakeError,
            "Device": _device_class(self),
            "Context": types.SimpleNamespace(pop=self._pop),
            "Stream": lambda: FakeStream(self),
            "Event": lambda: FakeEvent(self),
            "pagelocked_empty": self._pagelocked_empty,
            "mem_alloc": lambda size: FakeAllocation(self, size),
            "memcpy_htod_async": self._upload,
            "memcpy_dtoh_async": self._download,
        }
        vars(driver).update(content)
        vars(package)["driver"] = driver
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)

    def need_context(self) -> None:
        """Fail as the driver does where no context is current."""
        if self.depth < 1:
            raise FakeError("invalid device context")

    def _init(self) -> None:
        if self.broken:
            raise RuntimeError(self.broken)

    def _pop(self) -> None:
        self.need_context()
        self.depth -= 1

    def _pagelocked_empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        self.need_context()
        return np.full(shape, 99, dtype)

    def _upload(self, target: "FakeAllocation", source: np.ndarray, stream: "FakeStream") -> None:
        assert source.flags.c_contiguous

        def copy() -> None:
            self.memory[int(target)][: source.nbytes] = source.tobytes()

        stream.queue.append(copy)

    def _download(self, target: np.ndarray, source: "FakeAllocation", stream: "FakeStream") -> None:
        assert target.flags.c_contiguous

        def copy() -> None:
            content = bytes(self.memory[int(source)][: target.nbytes])
            target[...] = np.frombuffer(content, target.dtype).reshape(target.shape)

        stream.queue.append(copy)


def _device_class(cuda: FakeCuda) -> type:
    class Device:
        def __init__(self, index: int) -> None:
            assert index < cuda.devices

        @staticmethod
        def count() -> int:
            return cuda.devices

        def name(self) -> str:
            return "Fake GPU"

        def compute_capability(self) -> tuple[int, int]:
            return cuda.capability

        def retain_primary_context(self) -> Any:
            cuda.retained += 1
            return types.SimpleNamespace(push=push, detach=detach)

    def push() -> None:
        cuda.depth += 1

    def detach() -> None:
        cuda.retained -= 1

    return Device


class FakeAllocation:
    """Device memory."""

    def __init__(self, cuda: FakeCuda, size: int) -> None:
        cuda.need_context()
        self._cuda, self._address = cuda, 4096 * (len(cuda.memory) + 1)
        cuda.memory[self._address] = bytearray(size)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        """Forget it."""
        self._cuda.need_context()
        del self._cuda.memory[self._address]


class FakeStream:
    """Does what was queued when it is waited for, not before."""

    def __init__(self, cuda: FakeCuda) -> None:
        cuda.need_context()
        self._cuda = cuda
        self.handle = len(cuda.streams) + 1
        self.queue: list[Callable[[], None]] = []
        cuda.streams[self.handle] = self

    def synchronize(self) -> None:
        """Do the work."""
        self._cuda.need_context()
        while self.queue:
            self.queue.pop(0)()

    def wait_for_event(self, event: "FakeEvent") -> None:
        """Do nothing that is queued from now on before the event."""
        self._cuda.need_context()
        self.queue.append(event.let_happen)


class FakeEvent:
    """Counts milliseconds from its place in the order of recording."""

    _clock = 0

    def __init__(self, cuda: FakeCuda) -> None:
        cuda.need_context()
        self._cuda = cuda
        self._time = -1
        self._stream: FakeStream | None = None

    def record(self, stream: FakeStream) -> None:
        """Queue the reading of the clock."""
        self._time, self._stream = -1, stream

        def read() -> None:
            FakeEvent._clock += 1
            self._time = FakeEvent._clock

        stream.queue.append(read)

    def let_happen(self) -> None:
        """Do the work before it."""
        while self._time < 0:
            assert self._stream is not None, "an event that nobody recorded"
            self._stream.queue.pop(0)()

    def synchronize(self) -> None:
        """Wait for it."""
        self._cuda.need_context()
        self.let_happen()

    def time_since(self, earlier: "FakeEvent") -> float:
        """Milliseconds between two events that have happened."""
        assert earlier._time >= 0
        return float(self._time - earlier._time)
