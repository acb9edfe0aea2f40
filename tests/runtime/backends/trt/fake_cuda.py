"""A pycuda that keeps its memory in NumPy, and does queued work only when its stream is waited for.

Every call checks that a context is current, as the real driver does. ``install_graphs`` adds cuda-python, with the
functions and answers of cuda-bindings 12 and 13 that record graphs.
"""

import enum
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Work = Callable[[], Callable[[], None]]
"""Called when a computation is queued; gives what is called when it is done."""

_handles = itertools.count(1)


class Status(enum.Enum):
    """``cuda.bindings.driver.CUresult``."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class FakeError(Exception):
    """``pycuda.driver.Error``."""


class FakeCuda:
    """The state of the fake GPU, and the parts of ``pycuda.driver`` as attributes."""

    def __init__(
        self,
        *,
        devices: int = 1,
        broken: str = "",
        size: int = 1 << 30,
        integrated: bool = False,
        capability: tuple[int, int] = (8, 7),
    ) -> None:
        self.devices, self.broken, self.size, self.integrated = devices, broken, size, integrated
        self.capability = capability
        self.old_driver = False
        """Whether TensorRT finds the driver too old."""
        self.turns = {"queued": 0, "computed": 0}
        """Computations of all contexts, which share one scratch memory."""
        self.allocated = 0
        self.graphs: dict[int, list[Work]] = {}
        """Executable graphs that were not destroyed."""
        self.unused_graphs: set[int] = set()
        """Graphs that were not destroyed."""
        self._works: dict[int, list[Work]] = {}
        self.launches = 0
        self.refuses = ""
        """What records graphs and gives an error; ``lacks``: the driver has no such functions."""
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
            "mem_get_info": self._mem_get_info,
            "device_attribute": types.SimpleNamespace(INTEGRATED="integrated"),
            "memcpy_htod_async": self._upload,
            "memcpy_dtoh_async": self._download,
        }
        vars(driver).update(content)
        vars(package)["driver"] = driver
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)

    def install_graphs(self, monkeypatch: pytest.MonkeyPatch, name: str = "cuda.bindings.driver") -> None:
        """Put this in the place of cuda-python for one test."""
        parts = name.split(".")
        for count in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:count]), types.ModuleType(parts[count - 1]))
        api = types.ModuleType(name)
        vars(api).update(
            {
                "CUresult": Status,
                "CUstreamCaptureMode": types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="this thread"),
                "cuStreamBeginCapture": self._begin_capture,
                "cuStreamEndCapture": self._end_capture,
                "cuGraphInstantiate": self._instantiate,
                "cuGraphLaunch": self._launch,
                "cuGraphDestroy": self._destroy_graph,
                "cuGraphExecDestroy": self._destroy_executable,
            }
        )
        monkeypatch.setitem(sys.modules, name, api)

    def _status(self, name: str) -> "Status":
        self.need_context()
        return Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED if self.refuses == name else Status.CUDA_SUCCESS

    def _begin_capture(self, stream: int, mode: str) -> tuple["Status"]:
        assert mode == "this thread"
        if self.refuses == "lacks":
            raise RuntimeError('Function "cuStreamBeginCapture" not found')
        status = self._status("begin")
        if status == Status.CUDA_SUCCESS:
            assert self.streams[stream].captured is None
            self.streams[stream].captured = []
        return (status,)

    def _end_capture(self, stream: int) -> tuple["Status", int | None]:
        work, self.streams[stream].captured = self.streams[stream].captured, None
        assert work is not None, "nothing is being captured"
        status = self._status("end")
        if status != Status.CUDA_SUCCESS:
            return (status, None)
        handle = next(_handles)
        self._works[handle] = work
        self.unused_graphs.add(handle)
        return (status, handle)

    def _instantiate(self, graph: int, flags: int) -> tuple["Status", int | None]:
        assert flags == 0
        status = self._status("instantiate")
        if status != Status.CUDA_SUCCESS:
            return (status, None)
        handle = next(_handles)
        self.graphs[handle] = self._works[graph]
        return (status, handle)

    def _launch(self, graph: int, stream: int) -> tuple["Status"]:
        status = self._status("launch")
        if status == Status.CUDA_SUCCESS:
            self.launches += 1
            for work in self.graphs[graph]:
                self.streams[stream].add(work)
        return (status,)

    def _destroy_graph(self, graph: int) -> tuple["Status"]:
        self.unused_graphs.remove(graph)
        return (self._status(""),)

    def _destroy_executable(self, graph: int) -> tuple["Status"]:
        del self.graphs[graph]
        return (self._status(""),)

    def _mem_get_info(self) -> tuple[int, int]:
        self.need_context()
        return self.size - self.allocated, self.size

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

        def get_attribute(self, attribute: str) -> int:
            return {"integrated": int(cuda.integrated)}[attribute]

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
        if size > cuda.size - cuda.allocated:
            raise FakeError("cuMemAlloc failed: out of memory")
        assert size > 0, "cuMemAlloc failed: invalid argument"
        self._cuda, self._address, self._size = cuda, 4096 * next(_handles), size
        cuda.memory[self._address] = bytearray(size)
        cuda.allocated += size

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        """Forget it."""
        self._cuda.need_context()
        del self._cuda.memory[self._address]
        self._cuda.allocated -= self._size


class FakeStream:
    """Does what was queued when it is waited for, not before."""

    def __init__(self, cuda: FakeCuda) -> None:
        cuda.need_context()
        self._cuda = cuda
        self.handle = len(cuda.streams) + 1
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Work] | None = None
        cuda.streams[self.handle] = self

    def add(self, work: "Work") -> None:
        """Queue a computation, or record it."""
        if self.captured is None:
            self.queue.append(work())
        else:
            self.captured.append(work)

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
