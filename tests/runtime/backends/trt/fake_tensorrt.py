"""A TensorRT that has exactly the attributes of a published version, read from its listing.

Touching an attribute that the version lacks raises AttributeError, as the real binding does. A "plan" for it is JSON.
"""

import enum
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.runtime.backends.trt.fake_cuda import FakeCuda
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.tensorrt_api import read_listing


def plan_bytes(shape: tuple[int, ...] = (-1, 8, 8, 3), **changes: Any) -> bytes:
    """Return a plan for the fake: a box filter of reach 1, scale 2, tuned for 8x8, at most 4 tiles."""
    fields: dict[str, Any] = {
        "shape": shape,
        "profile": [[1, 4, 4, 3], [1, 8, 8, 3], [4, 16, 16, 3]],
        "dtype": "UINT8",
        "names": ["lr", "sr"],
        "scratch": 1000,
        "runs": True,
        "layers": [{"Name": "body", "LayerType": "CaskConvolution"}, "tail"],
    }
    return json.dumps({**fields, **changes}).encode()


def exact_plan_bytes(side: int, *, int64: bool = True) -> bytes:
    """Return a plan of fixed size that computes what ``attention_model`` of ``test_exact.py`` does.

    TensorRT 8 has no 64-bit integers: it takes those of an ONNX as 32-bit ones.
    """
    more = {"kept": ["INT64" if int64 else "INT32", [4]], "means": ["FLOAT", [3]], "given": ["BOOL", [1]]}
    return plan_bytes((1, side, side, 3), dtype="FLOAT", more=more, seen=True)


class _Listed:
    """An object that shows only what the listing of its class names."""

    _allowed: frozenset[str]

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in object.__getattribute__(self, "_allowed"):
            raise AttributeError(f"this version's {type(self).__name__} has no {name!r}")
        return object.__getattribute__(self, name)


class _Mode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class _Logger:
    INTERNAL_ERROR, ERROR, WARNING = "internal error", "error", "warning"

    def log(self, severity: str, message: str) -> None:
        raise NotImplementedError


class _Profiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


def install(version: str, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Put the fake in the place of ``tensorrt`` or ``tensorrt_rtx`` for one test."""
    listing = read_listing(version)
    library = types.ModuleType(listing.library)
    content = {
        "__version__": listing.version,
        "ILogger": _Logger,
        "IProfiler": _Profiler,
        "TensorIOMode": _Mode,
        **{name: enum.Enum(name, members) for name, members in listing.enums.items()},
        "Runtime": lambda logger: _Runtime(library, cuda, listing.classes, logger),
    }
    vars(library).update(content)
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, library if name == library.__name__ else None)
    return library


class _Runtime(_Listed):
    def __init__(self, library: Any, cuda: FakeCuda, classes: dict[str, frozenset[str]], logger: _Logger) -> None:
        assert cuda.depth == 1, "a runtime without a current context ends the process"
        if cuda.old_driver:
            logger.log(_Logger.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._library, self._cuda, self._classes, self._logger = library, cuda, classes, logger
        self._allowed = classes["Runtime"]
        self.engine_host_code_allowed, self.DLA_core = False, 0

    def deserialize_cuda_engine(self, plan: bytes) -> "_Engine | None":
        try:
            content = json.loads(plan)
            if content.get("brings_code") and not self.engine_host_code_allowed:
                content = {"refused": "the plan holds host code, which is not allowed"}
            if self.DLA_core != content.get("dla_core", 0):
                content = {"refused": f"built for another DLA core than {self.DLA_core}"}
        except ValueError:
            self._logger.log(_Logger.WARNING, "not this one")
            content = {"refused": "Magic tag does not match"}
        if "refused" in content:
            self._logger.log(_Logger.ERROR, content["refused"])
            return None
        return _Engine(content, self._library, self._cuda, self._classes)


class _Config(_Listed):
    cuda_graph_strategy: Any = None

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._strategy: Any = None
        self._cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def create_runtime_cache(self) -> object:
        return object()

    def set_runtime_cache(self, cache: object) -> bool:
        self._cache = cache
        return True


class _Engine(_Listed):
    def __init__(self, plan: dict[str, Any], library: Any, cuda: FakeCuda, classes: dict[str, frozenset[str]]) -> None:
        self._plan, self._library, self._cuda, self._classes = plan, library, cuda, classes
        self._allowed = classes["ICudaEngine"]
        self._inputs = {plan["names"][0]: [plan["dtype"], plan["shape"]], **plan.get("more", {})}
        self._outputs = [plan["names"][1], *(["seen"] if plan.get("seen") else [])]
        self.num_io_tensors = len(self._inputs) + len(self._outputs)
        self.device_memory_size = self.device_memory_size_v2 = plan["scratch"]

    def get_tensor_name(self, index: int) -> str:
        return str([*self._inputs, *self._outputs][index])

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if name in self._inputs else _Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> list[int]:
        if name in self._inputs:
            return list(self._inputs[name][1])
        return [self._plan["shape"][0], -1, -1, 3]

    def get_tensor_dtype(self, name: str) -> Any:
        kind = self._inputs[name][0] if name in self._inputs else self._plan.get("output_dtype", self._plan["dtype"])
        return getattr(self._library.DataType, kind)

    def is_shape_inference_io(self, name: str) -> bool:
        return bool(name == self._plan.get("shape_input"))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert (name, profile) == (self._plan["names"][0], 0)
        return list(self._plan["profile"])

    def get_engine_stat(self, stat: Any) -> int:
        assert stat == self._library.EngineStat.TOTAL_WEIGHTS_SIZE
        return 12345

    def create_runtime_config(self) -> _Config:
        return _Config(self._classes["IRuntimeConfig"])

    def create_engine_inspector(self) -> "_Inspector":
        return _Inspector(self._library, self._plan["layers"])

    def create_execution_context(self, how: Any) -> "_Context | None":
        replays = False
        managed = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        if isinstance(how, _Config):
            assert how._cache is not None
            how, replays = how._strategy, how.cuda_graph_strategy != self._library.CudaGraphStrategy.DISABLED
        assert how == managed
        return self._new_context(replays=replays)

    def _new_context(self, *, replays: bool = False) -> "_Context | None":
        if self._plan.get("no_context"):
            return None
        context = _Context(self._plan, self._cuda, self._classes)
        context._replays = replays
        return context

    def create_execution_context_without_device_memory(self) -> "_Context | None":
        return self._new_context()


class _Inspector:
    def __init__(self, library: Any, layers: list[Any]) -> None:
        self._library, self._layers = library, layers

    def get_engine_information(self, kind: Any) -> str:
        assert kind == self._library.LayerInformationFormat.JSON
        return json.dumps({"Layers": self._layers})


class _Context(_Listed):
    profiler: _Profiler | None = None
    _replays = False

    def __init__(self, plan: dict[str, Any], cuda: FakeCuda, classes: dict[str, frozenset[str]]) -> None:
        self._plan, self._cuda = plan, cuda
        self._allowed = classes["IExecutionContext"]
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._scratch = 0
        self._needed = plan["scratch"]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "device_memory":
            assert "set_device_memory" not in self._allowed
            name = "_scratch"
        object.__setattr__(self, name, value)

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self._needed
        self._scratch = address

    def update_device_memory_size_for_shapes(self) -> int:
        self._needed = self._plan["scratch"] * self._shape[0] // 4
        return int(self._needed)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name != self._plan["names"][0]:
            return bool(list(shape) == self._plan["more"][name][1])
        fits = all(
            known == asked or (known == -1 and least <= asked <= most)
            for known, asked, least, most in zip(
                self._plan["shape"], shape, self._plan["profile"][0], self._plan["profile"][2], strict=True
            )
        )
        self._shape = shape
        return fits

    def get_tensor_shape(self, name: str) -> list[int]:
        if name == "seen":
            return [self._shape[0], 3]
        count, height, width, channels = self._shape
        scale = self._plan.get("scale", 2)
        return [count, scale * height, scale * width, channels]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle != 0, "the default stream"
        self._cuda.need_context()
        assert len(self._cuda.memory[self._scratch]) >= self._needed
        stream = self._cuda.streams[stream_handle]
        if self.profiler is not None:
            assert not self._replays, "a graph of the library's own tells no layers"
            self._cuda.turns["profiled"] = self._cuda.turns.get("profiled", 0) + 1
            for index, layer in enumerate(self._plan["layers"]):
                name = layer["Name"] if isinstance(layer, dict) else layer
                self.profiler.report_layer_time(name, (index + 1) / self._cuda.turns["profiled"])
        stream.add(self._work)
        return bool(self._plan["runs"]) and not (self._plan.get("fails_recorded") and stream.captured is not None)

    def _work(self) -> Callable[[], None]:
        turns = self._cuda.turns
        turns["queued"] += 1
        turn = turns["queued"]

        def compute() -> None:
            turns["computed"] += 1
            assert turns["computed"] == turn, "two computations at a time in the same scratch memory"
            if self._plan.get("seen"):
                self._compute_exact()
            else:
                self._compute_box()

        return compute

    def _read(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        content = bytes(self._cuda.memory[self._addresses[name]])
        return np.frombuffer(content, dtype)[: np.prod(shape)].reshape(shape)

    def _write(self, name: str, result: np.ndarray) -> None:
        memory = self._cuda.memory[self._addresses[name]]
        assert result.nbytes <= len(memory)
        memory[: result.nbytes] = result.tobytes()

    def _compute_box(self) -> None:
        dtype = {"UINT8": np.uint8, "FLOAT": np.float32}[self._plan["dtype"]]
        io_dtype = "uint8" if dtype is np.uint8 else "float32"
        info = fake_info(receptive_field=1, io_dtype=io_dtype, max_batch=99)  # type: ignore[arg-type]
        self._write("sr", FakeBackend(info).run(self._read("lr", dtype, self._shape)))

    def _compute_exact(self) -> None:
        lr = self._read("lr", np.float32, self._shape)
        top, left, bottom, right = self._read("kept", self._plan["more"]["kept"][0].lower(), (4,))
        given = self._read("given", np.bool_, (1,))[0]
        own = lr.mean(axis=(1, 2))
        means = self._read("means", np.float32, (1, 3)) if given else own
        self._write("seen", lr[:, top:bottom, left:right].mean(axis=(1, 2)))
        self._write("sr", (lr * means[:, None, None] / 100).repeat(2, axis=1).repeat(2, axis=2))
