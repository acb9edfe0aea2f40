"""What a TensorRT plan says: the library that runs it, its engine, and the shapes of its input and output.

Only attributes that exist in TensorRT 8.6 to 11.4 and in TensorRT-RTX are used.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from drc_deploy.engine_info import EngineInfo, IoDtype, PlanOptions
from drc_deploy.errors import ArtefactError, MissingDependencyError

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


@dataclass(frozen=True, slots=True)
class PlanShapes:
    """Input and output of an engine, at the shape that it was tuned for."""

    input_name: str
    output_name: str
    io_dtype: IoDtype
    tile: tuple[int, int]
    """Height and width of the input; of an engine of free size the one that it was tuned for."""
    batch: int
    """Largest number of tiles in one call."""
    fixed_batch: bool
    """Whether every call must have exactly ``batch`` tiles."""


class LoadedPlan:
    """A deserialised engine with an execution context. A CUDA context must be current at all times."""

    def __init__(self, library: ModuleType, plan: bytes, options: PlanOptions) -> None:
        """Deserialise ``plan``; ``options`` are those of its sidecar.

        Raises:
            ArtefactError: the library does not take it (another version or GPU, damage), or memory is short.
        """
        self._library = library
        self._logger, self._errors = _collecting_logger(library)
        self._runtime: Any = make_runtime(library, self._logger, options)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failure("cannot load the plan")
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise self._failure("cannot make an execution context (GPU memory may be short)")
        self.shapes = self._read_shapes()

    def _failure(self, what: str) -> ArtefactError:
        """Give the error that says ``what`` and the last thing that the library logged."""
        reason = f": {self._errors[-1]}" if self._errors else ""
        return ArtefactError(f"{self._library.__name__} {self._library.__version__} {what}{reason}")

    def _read_shapes(self) -> PlanShapes:
        engine, library = self._engine, self._library
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT]
        if len(inputs) != 1 or len(names) != 2:
            raise ArtefactError(f"the plan has the tensors {names}, not one input and one output")
        (output,) = (name for name in names if name not in inputs)
        shape = tuple(engine.get_tensor_shape(inputs[0]))
        if len(shape) != 4 or shape[3] != 3:
            raise ArtefactError(f"the plan takes {shape}, not NHWC RGB")
        smallest = tuned = largest = shape
        if min(shape) < 0:
            smallest, tuned, largest = (tuple(dims) for dims in engine.get_tensor_profile_shape(inputs[0], 0))
        return PlanShapes(
            input_name=inputs[0],
            output_name=output,
            io_dtype=self._io_dtype(inputs[0]),
            tile=(tuned[1], tuned[2]),
            batch=largest[0],
            fixed_batch=smallest[0] == largest[0],
        )

    def _io_dtype(self, name: str) -> IoDtype:
        kinds: dict[Any, IoDtype] = {
            self._library.DataType.UINT8: "uint8",
            self._library.DataType.FLOAT: "float32",
        }
        kind = self._engine.get_tensor_dtype(name)
        if kind not in kinds:
            raise ArtefactError(f"the plan takes {kind}, not uint8 or float32")
        return kinds[kind]

    def set_batch(self, batch: int) -> tuple[int, ...]:
        """Set the input to ``batch`` tiles and give the shape of the output."""
        shape = (batch, *self.shapes.tile, 3)
        if not self._context.set_input_shape(self.shapes.input_name, shape):
            raise self._failure(f"refuses an input of {shape}")
        return tuple(self._context.get_tensor_shape(self.shapes.output_name))

    def enqueue(self, input_address: int, output_address: int, stream_handle: int) -> None:
        """Queue one call for the input shape that was set last.

        Raises:
            ArtefactError: the library refused.
        """
        self._context.set_tensor_address(self.shapes.input_name, input_address)
        self._context.set_tensor_address(self.shapes.output_name, output_address)
        if not self._context.execute_async_v3(stream_handle):
            raise self._failure("failed to run the engine")

    def close(self) -> None:
        """Destroy context, engine and runtime, in this order."""
        self._context = None
        self._engine = None
        self._runtime = None


def make_runtime(library: ModuleType, logger: Any, options: PlanOptions) -> Any:
    """Give a runtime for a plan.

    A version-compatible plan brings code that the runtime executes, so ``options`` must come from this program's own
    build, or from a sidecar whose SHA-256 is that of the plan: nothing else may say that the code is to be trusted.
    """
    runtime = library.Runtime(logger)
    if options.version_compatible:
        runtime.engine_host_code_allowed = True
    if options.dla_core is not None:
        runtime.DLA_core = options.dla_core
    return runtime


def info_without_sidecar(name: str, shapes: PlanShapes, output_shape: tuple[int, ...]) -> EngineInfo:
    """Describe a plan by its shapes alone.

    What the shapes do not tell is set so that tiling is careful: as if the network had global operations.
    """
    return EngineInfo(
        model=name,
        scale=output_shape[1] // shapes.tile[0],
        precision="fp32",
        io_dtype=shapes.io_dtype,
        tile=shapes.tile,
        max_batch=shapes.batch,
        receptive_field=min(shapes.tile),
        global_operations=True,
        params=0,
        widths=(),
        checkpoint_sha256="",
    )


def _collecting_logger(library: ModuleType) -> tuple[Any, list[str]]:
    """Give a logger that keeps the library's errors, and the list that they go to."""
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
