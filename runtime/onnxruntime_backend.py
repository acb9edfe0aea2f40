"""Runs an exported ONNX file with ONNX Runtime: on the CPU everywhere, on the GPU where the package can."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from drc_deploy.engine_info import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backend import Backend, Pixels, check_batch
from drc_deploy.runtime.cuda_memory import has_cuda_driver

if TYPE_CHECKING:
    import onnxruntime

_FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the user through exceptions, not through its own lines."""

_NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
"""What it calls an operation that it lacks for a type."""

_TENSOR_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


class OnnxRuntimeBackend(Backend):
    """An ONNX Runtime session over a file that ``drc-deploy export`` wrote."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._path = path
        self._session: Any = _open_session(path, threads)
        self._info = _read_info(self._session, path)
        self._device = f"ONNX Runtime {self._session.get_providers()[0]}"

    @property
    def info(self) -> EngineInfo:
        """What the file says about itself."""
        return self._info

    @property
    def device(self) -> str:
        """The provider that the session really uses."""
        return self._device

    @property
    def preferred_batch(self) -> int:
        """One on a CPU, where more only cost memory."""
        return 1 if "CPU" in self._device else self._info.max_batch

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        check_batch(batch, self._info)
        try:
            (result,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        except Exception as error:  # its exceptions have no common public base
            raise ArtefactError(
                f"ONNX Runtime could not run {self._path} on an input of {batch.shape}: {error}.",
                "If memory ran out, give a smaller --tile.",
            ) from error
        output: Pixels = result
        return output

    def close(self) -> None:
        """Drop the session, which frees its memory."""
        self._session = None


def _open_session(path: Path, threads: int | None) -> "onnxruntime.InferenceSession":
    ort = _import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # A pattern planned for one input size is of no use for the next, and costs 40 % more memory.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(path), options, providers=_providers(ort))
    except Exception as error:  # its exceptions have no common public base
        hint = "Export it again with `drc-deploy export`."
        if _NOT_IMPLEMENTED in str(error):
            hint = "A CPU runs fp32 and fp16 files, but no bf16: export with another --precision."
        raise ArtefactError(f"ONNX Runtime cannot load {path}: {error}.", hint) from error


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "running an ONNX file needs onnxruntime, which is not installed.",
            "Install it: pip install 'drc-deploy[ort]' (or [ort-gpu] for an NVIDIA GPU).",
        ) from error
    module: ModuleType = onnxruntime
    return module


def _providers(ort: ModuleType) -> list[str]:
    """Ask for CUDA only where it can work: on other machines the mere question prints errors."""
    wanted = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in ort.get_available_providers() and has_cuda_driver():
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # finds the CUDA libraries inside the nvidia-* packages
        wanted.insert(0, "CUDAExecutionProvider")
    return wanted


def _read_info(session: "onnxruntime.InferenceSession", path: Path) -> EngineInfo:
    """Read the metadata and check that the graph's input and output are what it says."""
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise ArtefactError(
            f"{path} is an ONNX file of another program.", "Make one with `drc-deploy export CHECKPOINT`."
        )
    info = EngineInfo.from_json(metadata[METADATA_KEY], str(path))
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    tensor = _TENSOR_TYPES[info.io_dtype]
    if inputs != [(INPUT_NAME, tensor)] or outputs != [(OUTPUT_NAME, tensor)]:
        raise ArtefactError(
            f"{path} takes {inputs} and gives {outputs}, which is not what its metadata says.",
            "Export it again with `drc-deploy export`.",
        )
    return info
