"""A TensorRT that has exactly the attributes of a published version, read from its listing.

Touching an attribute that the version lacks raises AttributeError, as the real binding does. A "plan" for it is JSON.
"""

import enum
import json
import sys
import types
from typing import Any

import numpy as np
import pytest

from drc_deploy.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.fake_cuda import FakeCuda
from tests.tensorrt_api import read_listing


def plan_bytes(shape: tuple[int, ...] = (-1, 8, 8, 3), **changes: Any) -> bytes:
    """Give a plan for the fake: a box filter of reach 1, scale 2, tuned for 8x8, at most 4 tiles."""
    fields: dict[str, Any] = {
        "shape": shape,
        "profile": [[1, 4, 4, 3], [1, 8, 8, 3], [4, 16, 16, 3]],
        "dtype": "UINT8",
        "runs": True,
    }
    return json.dumps({**fields, **changes}).encode()


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


def install(version: str, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Put the fake in the place of ``tensorrt`` or ``tensorrt_rtx`` for one test."""
    listing = read_listing(version)
    library = types.ModuleType(listing.library)
    content = {
        "__version__": listing.version,
        "ILogger": _Logger,
        "TensorIOMode": _Mode,
        "DataType": enum.Enum("DataType", listing.enums["DataType"]),
        "Runtime": lambda logger: _Runtime(library, cuda, listing.classes, logger),
    }
    vars(library).update(content)
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, library if name == library.__name__ else None)
    return library


class _Runtime(_Listed):
    def __init__(self, library: Any, cuda: FakeCuda, classes: dict[str, frozenset[str]], logger: _Logger) -> None:
        assert cuda.depth == 1, "a runtime without a current context ends the process"
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


class _Engine(_Listed):
    def __init__(self, plan: dict[str, Any], library: Any, cuda: FakeCuda, classes: dict[str, frozenset[str]]) -> None:
        self._plan, self._library, self._cuda, self._classes = plan, library, cuda, classes
        self._allowed = classes["ICudaEngine"]
        self.num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return ("in", "out")[index]

    def get_tensor_mode(self, name: str) -> _Mode:
        return {"in": _Mode.INPUT, "out": _Mode.OUTPUT}[name]

    def get_tensor_shape(self, name: str) -> list[int]:
        assert name == "in"
        return list(self._plan["shape"])

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._library.DataType, self._plan["dtype"])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert (name, profile) == ("in", 0)
        return list(self._plan["profile"])

    def create_execution_context(self) -> "_Context":
        return _Context(self._plan, self._cuda, self._classes)


class _Context(_Listed):
    def __init__(self, plan: dict[str, Any], cuda: FakeCuda, classes: dict[str, frozenset[str]]) -> None:
        self._plan, self._cuda = plan, cuda
        self._allowed = classes["IExecutionContext"]
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._queued = self._computed = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fits = all(
            known == asked or (known == -1 and least <= asked <= most)
            for known, asked, least, most in zip(
                self._plan["shape"], shape, self._plan["profile"][0], self._plan["profile"][2], strict=True
            )
        )
        self._shape = shape
        return name == "in" and fits

    def get_tensor_shape(self, name: str) -> list[int]:
        count, height, width, channels = self._shape
        return [count, 2 * height, 2 * width, channels]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle != 0, "the default stream"
        memory, shape = self._cuda.memory, self._shape
        source, target = self._addresses["in"], self._addresses["out"]
        dtype = {"UINT8": np.uint8, "FLOAT": np.float32}[self._plan["dtype"]]

        self._queued += 1
        turn = self._queued

        def compute() -> None:
            self._computed += 1
            assert self._computed == turn, "two computations at a time in the scratch memory of one context"
            batch = np.frombuffer(bytes(memory[source]), dtype)[: np.prod(shape)].reshape(shape)
            io_dtype = "uint8" if dtype is np.uint8 else "float32"
            info = fake_info(receptive_field=1, io_dtype=io_dtype, max_batch=99)  # type: ignore[arg-type]
            result = FakeBackend(info).run(batch).tobytes()
            memory[target][: len(result)] = result

        self._cuda.streams[stream_handle].queue.append(compute)
        return bool(self._plan["runs"])
