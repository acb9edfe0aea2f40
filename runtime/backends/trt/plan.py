"""A TensorRT plan: the library that runs it, its engine, the types and shapes of its tensors, and calls of it.

Only attributes that exist in TensorRT 8.6 to 11.4 and in TensorRT-RTX are used.
"""

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from drc_deploy.engine_info import INPUT_NAME, PlanOptions
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backends.contract import LayerRun
from drc_deploy.runtime.backends.trt.graphs import Enqueue

_INSTALL = {
    "tensorrt": "pip install 'drc-deploy[trt]' (on a Jetson: the TensorRT of its JetPack)",
    "tensorrt_rtx": "pip install 'drc-deploy[rtx]'",
}


def load_library(builder: str | None) -> ModuleType:
    """Import the library that built a plan, or, when that is not known, the first one that is installed.

    Raises:
        MissingDependencyError: it is not installed, or a part of it is missing.
    """
    reasons = []
    for name in [builder] if builder else list(_INSTALL):
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{name}: {error}")
    raise MissingDependencyError(
        f"the TensorRT library cannot be used ({'; '.join(reasons)})",
        f"Install it: {_INSTALL[builder or 'tensorrt']}.",
    )


_DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
"""TensorRT's names of the types that inputs and outputs may have, and NumPy's."""


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """An input or output of an engine."""

    dtype: str
    """NumPy's name."""
    shape: tuple[int, ...]
    """At the largest batch; of an engine of free size, at the size that it was tuned for."""
    batched: bool
    """Whether the first number is that of tiles, so that it may be less."""

    def at(self, batch: int) -> tuple[int, ...]:
        """Return the shape for a batch of ``batch`` tiles."""
        return (batch, *self.shape[1:]) if self.batched else self.shape

    def nbytes(self, batch: int) -> int:
        """Return the size for a batch of ``batch`` tiles."""
        return math.prod(self.at(batch)) * np.dtype(self.dtype).itemsize


class LoadedPlan:
    """A deserialised engine. A CUDA context must be current at all times.

    Attributes:
        inputs: By name, in the engine's order; one of them is ``INPUT_NAME``, NHWC RGB.
        outputs: By name, in the engine's order.
        batch: Largest number of tiles in one call.
        fixed_batch: Whether every call must have exactly ``batch`` tiles.
        records_itself: Whether the library replays CUDA graphs by itself.
        engine_bytes: Memory of the weights on the GPU, or the size of the plan where the library does not report it.
    """

    def __init__(self, library: ModuleType, plan: bytes, options: PlanOptions) -> None:
        """Deserialise ``plan``; ``options`` are those of its sidecar.

        Raises:
            ArtefactError: the library does not take it (another version or GPU, damage), memory is short, or its
                tensors are not those of a network of this program.
        """
        self._library = library
        self._logger, self._errors = _collecting_logger(library)
        self._runtime: Any = None
        self._engine: Any = None
        self._config: Any = None
        self._profiler: Any = None
        self._spare: Any = None
        """A context that no call uses yet."""
        try:
            self._load(plan, options)
        except BaseException:
            self.close()  # while the CUDA context is current
            raise

    def _load(self, plan: bytes, options: PlanOptions) -> None:
        try:
            self._runtime = make_runtime(self._library, self._logger, options)
        except (TypeError, RuntimeError) as error:  # of the binding, where the library returns nothing
            raise self._failure("does not start: the NVIDIA driver may be too old for it") from error
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failure("cannot load the plan")
        self._config = self._runtime_config(replays=True)
        self.records_itself = self._config is not None
        self.engine_bytes = len(plan)
        if hasattr(self._library, "EngineStat"):
            self.engine_bytes = int(self._engine.get_engine_stat(self._library.EngineStat.TOTAL_WEIGHTS_SIZE)) or len(
                plan
            )
        self._spare = self._new_context(self._config)
        self.inputs = self._read_inputs()
        lr = self.inputs[INPUT_NAME]
        self.batch, self.fixed_batch = lr.shape[0], not lr.batched
        self.outputs = self._read_outputs()

    def _failure(self, what: str) -> ArtefactError:
        """Return the error that says ``what`` and the last thing that the library logged."""
        reason = f": {self._errors[-1]}" if self._errors else ""
        return ArtefactError(f"{self._library.__name__} {self._library.__version__} {what}{reason}")

    def _runtime_config(self, *, replays: bool) -> Any | None:
        """Let a library that records CUDA graphs by itself do so, or not; None for others, which cannot."""
        trt = self._library
        if not hasattr(trt, "CudaGraphStrategy"):
            return None
        config = self._engine.create_runtime_config()
        strategies = trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if replays else strategies.DISABLED
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # Kernels that are compiled for one context serve the others.
        config.set_runtime_cache(config.create_runtime_cache())
        return config

    def _new_context(self, config: Any | None) -> Any:
        """Make an execution context without scratch memory, which all of them share."""
        if config is not None:
            context = self._engine.create_execution_context(config)
        elif hasattr(self._library, "ExecutionContextAllocationStrategy"):
            strategy = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
        else:
            context = self._engine.create_execution_context_without_device_memory()
        if context is None:
            raise self._failure("cannot make an execution context (GPU memory may be short)")
        return context

    def _names(self, mode: Any) -> list[str]:
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return [name for name in names if engine.get_tensor_mode(name) == mode]

    def _read_inputs(self) -> dict[str, PlanTensor]:
        names = self._names(self._library.TensorIOMode.INPUT)
        if INPUT_NAME not in names:
            raise ArtefactError(f"the plan takes {', '.join(names) or 'nothing'}, not {INPUT_NAME}")
        inputs = {name: self._read_input(name) for name in names}
        shape = inputs[INPUT_NAME].shape
        if len(shape) != 4 or shape[3] != 3:
            raise ArtefactError(f"the plan takes {shape}, not NHWC RGB")
        return inputs

    def _read_input(self, name: str) -> PlanTensor:
        engine = self._engine
        if engine.is_shape_inference_io(name):
            raise ArtefactError(f"the plan takes {name} as a shape, which no plan of this program does")
        shape = smallest = tuned = largest = tuple(engine.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            smallest, tuned, largest = (tuple(dims) for dims in engine.get_tensor_profile_shape(name, 0))
        batched = shape[:1] == (-1,) and smallest[0] < largest[0]
        return PlanTensor(self._dtype(name), (*largest[:1], *tuned[1:]), batched)

    def _read_outputs(self) -> dict[str, PlanTensor]:
        self._set_shapes(self._spare, self.batch)
        outputs = {}
        for name in self._names(self._library.TensorIOMode.OUTPUT):
            shape = tuple(self._spare.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                raise ArtefactError(f"the size of {name} is not known before the plan runs")
            batched = tuple(self._engine.get_tensor_shape(name))[:1] == (-1,)
            outputs[name] = PlanTensor(self._dtype(name), shape, batched)
        return outputs

    def _dtype(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name)
        for theirs, ours in _DTYPES.items():
            if kind == getattr(self._library.DataType, theirs, None):
                return ours
        raise ArtefactError(f"{name} of the plan is {kind}, not {' or '.join(_DTYPES.values())}")

    def _set_shapes(self, context: Any, batch: int) -> None:
        for name, tensor in self.inputs.items():
            if not context.set_input_shape(name, tensor.at(batch)):
                raise self._failure(f"refuses an input {name} of {tensor.at(batch)}")

    def scratch_bytes(self, batch: int) -> int:
        """Return the scratch memory that a computation of a batch of ``batch`` tiles needs."""
        if batch < self.batch and hasattr(self._spare, "update_device_memory_size_for_shapes"):
            self._set_shapes(self._spare, batch)
            return int(self._spare.update_device_memory_size_for_shapes())
        # The older attribute ends at 2 GiB.
        engine = self._engine
        size = engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size
        return int(size)

    def bind(self, batch: int, addresses: Mapping[str, int], scratch: tuple[int, int]) -> Enqueue:
        """Prepare a call with one set of shapes and addresses, in an execution context of its own.

        A CUDA graph holds the state of its context, so that no context may serve a second one.

        Args:
            batch: tiles, at most ``self.batch``.
            addresses: of all inputs and outputs on the GPU.
            scratch: address and size of GPU memory of at least ``scratch_bytes(batch)``.

        Returns:
            What queues the call.
        """
        context, self._spare = self._spare or self._new_context(self._config), None
        return self._bind(context, batch, addresses, scratch)

    def bind_timed(
        self, batch: int, addresses: Mapping[str, int], scratch: tuple[int, int]
    ) -> tuple[Enqueue, list[LayerRun]]:
        """Prepare a call as ``bind`` does, but never as a CUDA graph; return it and the list that its layers go to."""
        context = self._new_context(self._runtime_config(replays=False))
        text = self._engine.create_engine_inspector().get_engine_information(self._library.LayerInformationFormat.JSON)
        operations = {str(layer.get("Name")): str(layer.get("LayerType", "")) for layer in inspected_layers(text)}
        self._profiler, layers = _collecting_profiler(self._library, operations)  # kept: the context may not do so
        context.profiler = self._profiler
        return self._bind(context, batch, addresses, scratch), layers

    def _bind(self, context: Any, batch: int, addresses: Mapping[str, int], scratch: tuple[int, int]) -> Enqueue:
        self._set_shapes(context, batch)
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise self._failure(f"refuses the address of {name}")
        address, size = scratch
        if hasattr(context, "update_device_memory_size_for_shapes") and size < self.scratch_bytes(self.batch):
            context.update_device_memory_size_for_shapes()
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(address, size)
        else:
            context.device_memory = address

        def enqueue(stream_handle: int) -> None:
            if not context.execute_async_v3(stream_handle):
                raise self._failure("failed to run the engine")

        return enqueue

    def close(self) -> None:
        """Destroy engine and runtime, in this order; results of ``bind`` must be gone."""
        self._spare = self._config = self._profiler = None
        self._engine = None
        self._runtime = None


def inspected_layers(text: str) -> list[dict[str, Any]]:
    """Return the layers of an engine inspector's JSON that have more than a name."""
    try:
        layers = list(json.loads(text)["Layers"])
    except (ValueError, KeyError, TypeError):
        return []
    return [layer for layer in layers if isinstance(layer, dict)]


def make_runtime(library: ModuleType, logger: Any, options: PlanOptions) -> Any:
    """Return a runtime for a plan.

    A version-compatible plan brings code that the runtime executes. So ``options`` must come from this program's own
    build, or from a sidecar with the SHA-256 of the plan: nothing else may declare that code trusted.
    """
    runtime = library.Runtime(logger)
    if options.version_compatible:
        runtime.engine_host_code_allowed = True
    if options.dla_core is not None:
        runtime.DLA_core = options.dla_core
    return runtime


def _collecting_logger(library: ModuleType) -> tuple[Any, list[str]]:
    """Return a logger that keeps the library's errors, and the list that they go to."""
    errors: list[str] = []
    severe = (library.ILogger.INTERNAL_ERROR, library.ILogger.ERROR)
    base: Any = library.ILogger

    class _Logger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                errors.append(message)

    return _Logger(), errors


def _collecting_profiler(library: ModuleType, operations: Mapping[str, str]) -> tuple[Any, list[LayerRun]]:
    """Return a profiler that keeps the times of layers, and the list that they go to."""
    layers: list[LayerRun] = []
    base: Any = library.IProfiler

    class _Profiler(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            layers.append(LayerRun(layer_name, operations.get(layer_name) or "layer", ms))

    return _Profiler(), layers
