"""Which of ONNX Runtime's providers computes a graph: CUDA, OpenVINO or its own CPU provider, and how each is opened.

The package that is installed decides: ``onnxruntime-gpu`` brings CUDA, ``onnxruntime-openvino`` OpenVINO. ONNX Runtime
lists a provider as used even where it takes no node of a graph. Where a provider fails to start, it silently computes
on the CPU. Both are detected here and reported.
"""

import contextlib
import functools
import io
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from drc_deploy.errors import ArtefactError, cannot_import
from drc_deploy.onnx_metadata import check_plain_graph
from drc_deploy.proc_files import cpu_flags
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver
from drc_deploy.runtime.memory.heap import map_large_blocks
from drc_deploy.runtime.memory.host import available_bytes, usable_cores

CPU, CUDA, OPENVINO = "CPUExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider"

_FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the user through exceptions, not through its own lines."""
_GROW_AS_REQUESTED = 1
"""``arena_extend_strategy`` of ONNX Runtime."""
_NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
"""ONNX Runtime's word for an operation that it lacks for a type."""
_WITHOUT_OVERFLOW = ("session.x64quantprecision", "1")
"""Session option: an x86 CPU without VNNI adds products of INT8 in 16 bits, which overflow, without this."""
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
_CUDA_OPTIONS = {
    "use_tf32": "0",  # an fp32 graph is computed in float32, as in a plan
    # The exhaustive search, which is the default, begins anew with every size of tile.
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
_OPENVINO_PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",  # left to itself it may compute in bfloat16 where the CPU can
    "ENABLE_CPU_PINNING": "NO",  # pinned threads of two processes meet on the same cores
}
_HINTS = {
    CUDA: "Install the CUDA libraries that it was built for: pip install 'onnxruntime-gpu[cuda,cudnn]'.",
    OPENVINO: "Install onnxruntime in the place of onnxruntime-openvino to be rid of this message.",
}

_log = logging.getLogger(__name__)


def open_session(path: Path, threads: int | None, *, cpu_only: bool = False) -> Any:
    """Load a graph with the best provider that works; ``session.get_providers()[0]`` is the one that computes.

    Args:
        path: An ONNX file.
        threads: CPU threads; None: as many as cores may be used.
        cpu_only: Take the CPU provider.

    Raises:
        ArtefactError: ONNX Runtime refuses the file, or it does what no network does.
        MissingDependencyError: onnxruntime is not installed.
    """
    library = import_onnxruntime()
    check_plain_graph(path)
    wanted = CPU if cpu_only else _wanted_provider(library)
    if wanted == CPU:
        return _open_cpu(path, threads)
    try:
        if wanted == CUDA:
            missing = _preload_cuda_libraries()
            return _open_accelerated(path, session_options(threads), [(CUDA, _CUDA_OPTIONS), CPU], missing)
        return _open_openvino(path, threads or usable_cores(), 1)
    except _NotUsableError as reason:
        session = _open_cpu(path, threads)  # where the file is at fault, this says so
        _warn_once(wanted, str(reason))
        return session


def open_for_streams(path: Path, provider: str, count: int) -> Any:
    """Load a graph that ``provider`` computes for ``count`` calls at a time, each on one core.

    Raises:
        ArtefactError: the provider refuses the file.
    """
    if provider == CPU:
        return _open_cpu(path, 1)
    try:
        return _open_openvino(path, count, count)
    except _NotUsableError as reason:
        raise ArtefactError(
            f"OpenVINO cannot load {path} a second time: {reason}.", "If memory ran out, close other programs."
        ) from reason


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        install = "pip install 'drc-deploy[ort]' (or [ort-gpu] for an NVIDIA GPU)."
        raise cannot_import("running an ONNX file", "onnxruntime", install, error) from error
    module: ModuleType = onnxruntime
    return module


class _NotUsableError(Exception):
    """Why a provider does not compute a graph."""


def _wanted_provider(ort: ModuleType) -> str:
    available = ort.get_available_providers()
    # Without a driver the mere question prints errors.
    if CUDA in available and has_cuda_driver():
        return CUDA
    return OPENVINO if OPENVINO in available else CPU


def _open_cpu(path: Path, threads: int | None) -> Any:
    options = session_options(threads)
    _register_exact_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return import_onnxruntime().InferenceSession(str(path), options, providers=[CPU])
    except Exception as error:  # its exceptions have no common public base
        hint = "Export it again with `drc-deploy export`."
        if _NOT_IMPLEMENTED in str(error):
            hint = "A CPU runs fp32 and fp16 files, but no bf16: export with another --precision."
        raise ArtefactError(f"ONNX Runtime cannot load {path}: {error}.", hint) from error


def _open_openvino(path: Path, threads: int, streams: int) -> Any:
    options = session_options(None)
    # It is listed as used even where the CPU provider computes everything: all nodes or none.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings = {
        "device_type": "CPU",
        "num_of_threads": str(threads),
        "num_streams": str(streams),
        "load_config": json.dumps({"CPU": _OPENVINO_PROPERTIES}),
    }
    return _open_accelerated(path, options, [(OPENVINO, settings)])


def _open_accelerated(path: Path, options: Any, providers: list[Any], likely_reason: str = "") -> Any:
    """Open with the first of ``providers`` or not at all."""
    ort = import_onnxruntime()
    ort.set_default_logger_severity(_FATAL_ONLY)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):  # it prints that it falls back
            session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no common public base
        raise _NotUsableError(_first_line(str(error))) from error
    if session.get_providers()[0] != providers[0][0]:
        printed = [line for line in said.getvalue().splitlines() if line.startswith("EP Error")]
        raise _NotUsableError(_first_line("\n".join([*printed, likely_reason, "it does not say why"])))
    session.disable_fallback()  # in a run it would print too, and go on with the CPU unnoticed
    return session


def _first_line(text: str) -> str:
    """Return the first line that is not empty, without its full stop."""
    return next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), "")


def session_options(threads: int | None) -> Any:
    """Return the options of every session: ``threads`` threads, None for ONNX Runtime's own choice.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # A pattern planned for one input size is of no use for the next, and costs 40 % more memory.
    options.enable_mem_pattern = False
    # Threads that look for work instead keep the cores from other programs, and from our own that read and write.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not _VNNI & cpu_flags():  # with it nothing overflows, and the option would take 2.4 times as long
        options.add_session_config_entry(*_WITHOUT_OVERFLOW)
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


@functools.cache
def _preload_cuda_libraries() -> str:
    """Load the CUDA libraries inside the nvidia-* packages; return the message about the first that is missing."""
    ort = import_onnxruntime()
    said = io.StringIO()
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(said):  # it prints what it does not find
            ort.preload_dlls()
    return _first_line(said.getvalue())


@functools.cache
def _warn_once(provider: str, reason: str) -> None:
    _log.warning("%s of ONNX Runtime does not work here (%s): the CPU computes. %s", provider, reason, _HINTS[provider])


@functools.cache
def _register_exact_arena() -> None:
    """Let the CPU sessions of this process share an arena that grows by what is needed, instead of by powers of two."""
    ort = import_onnxruntime()
    map_large_blocks()  # the arena's too
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # A graph may ask for any size, and the system grants more than there is. By the size asked for; first chunk and
    # unused remainders as the library has them.
    most = available_bytes() or 0
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(most, _GROW_AS_REQUESTED, -1, -1))
