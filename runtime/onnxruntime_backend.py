"""Runs an exported ONNX file with ONNX Runtime: on the CPU everywhere, on the GPU where the package can."""

import functools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from drc_deploy.engine_info import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backend import Backend, Pixels, check_batch
from drc_deploy.runtime.cuda_memory import has_cuda_driver

if TYPE_CHECKING:
    import onnxruntime

_FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the user through exceptions, not through its own lines."""

_GROW_AS_REQUESTED = 1
"""``arena_extend_strategy`` of ONNX Runtime."""

_CPU = ["CPUExecutionProvider"]
_TENSOR_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


class OnnxRuntimeBackend(Backend):
    """An ONNX Runtime session over a file that ``drc-deploy export`` wrote."""

    def __init__(self, path: Path, *, threads: int | None = None, cpu_only: bool = False) -> None:
        """Load ``path``; see ``open_backend``. ``cpu_only``: leave a GPU alone."""
        self._path = path
        self._session: Any = _open_session(path, threads, cpu_only=cpu_only)
        self._info = _read_info(self._session, path)
        self._device = f"ONNX Runtime {self._session.get_providers()[0]}"
        self._workers = (threads or usable_cores()) if "CPU" in self._device else 1
        self._narrow_session: Any = None
        self._latest_shape: tuple[int, ...] = ()

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
        return self._run_in(self._session, batch)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches, on a CPU one per core at a time: faster than all cores at one; see ``Backend``."""
        remaining = iter(batches)
        with ThreadPoolExecutor(self._workers) as pool:
            ahead: list[Future[Pixels]] = []
            try:
                while len(chunk := list(islice(remaining, self._workers))) == self._workers > 1:
                    ahead, ready = [pool.submit(self._run_in, self._narrow(), batch) for batch in chunk], ahead
                    yield from (job.result() for job in ready)
                yield from (job.result() for job in ahead)
            finally:
                pool.shutdown(cancel_futures=True)
        # Too few for all cores: all of them for one after the other.
        yield from map(self.run, chain(chunk, remaining))

    def _narrow(self) -> Any:
        """Give a session of one thread, which several threads may use at a time."""
        if self._narrow_session is None:
            self._narrow_session = _open_session(self._path, 1, cpu_only=True)
        return self._narrow_session

    def _tidy_for(self, batch: Pixels) -> None:
        """Give back what another shape left in the arena, which is of no use for this one."""
        changed = self._latest_shape not in ((), batch.shape)
        self._latest_shape = batch.shape
        if changed and self._info.tile is None and "CPU" in self._device:
            # Only a run can ask for it: one of the smallest input.
            smallest = np.zeros((1, 1, 1, 3), batch.dtype)
            self._session.run([OUTPUT_NAME], {INPUT_NAME: smallest}, _shrinking_run())

    def _run_in(self, session: Any, batch: Pixels) -> Pixels:
        check_batch(batch, self._info)
        self._tidy_for(batch)
        try:
            (result,) = session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        except Exception as error:  # its exceptions have no common public base
            raise ArtefactError(
                f"ONNX Runtime could not run {self._path} on an input of {batch.shape}: {error}.",
                "If memory ran out, give a smaller --tile.",
            ) from error
        output: Pixels = result
        return output

    def close(self) -> None:
        """Drop the sessions, which frees their memory."""
        self._session = self._narrow_session = None


def usable_cores() -> int:
    """Give how many cores this process may use."""
    # Not cpu_count: containers and `taskset` leave fewer.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_session(path: Path, threads: int | None, *, cpu_only: bool) -> "onnxruntime.InferenceSession":
    ort = _import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # A pattern planned for one input size is of no use for the next, and costs 40 % more memory.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    providers = _CPU if cpu_only else _providers(ort)
    if providers == _CPU:
        _register_exact_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no common public base
        raise ArtefactError(
            f"ONNX Runtime cannot load {path}: {error}.", "Export it again with `drc-deploy export`."
        ) from error


@functools.cache
def _register_exact_arena() -> None:
    """Let the CPU sessions of this process share an arena that grows by what is needed, instead of by powers of two."""
    ort = _import_onnxruntime()
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # No limit; by the size asked for; first chunk and unused remainders as the library has them.
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, _GROW_AS_REQUESTED, -1, -1))


@functools.cache
def _shrinking_run() -> Any:
    """Give the options of a run after which the arena is given back."""
    options = _import_onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


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
    wanted = list(_CPU)
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
