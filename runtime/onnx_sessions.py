"""ONNX Runtime sessions over one file: one with all cores, and on a CPU one for many threads of one core each."""

import functools
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from drc_deploy.engine_info import INPUT_NAME
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.allocator import give_back_freed, map_large_blocks
from drc_deploy.runtime.backend import Pixels
from drc_deploy.runtime.cuda_memory import has_cuda_driver
from drc_deploy.runtime.memory_plan import usable_cores

if TYPE_CHECKING:
    import onnxruntime

_FATAL_ONLY = 4
"""ONNX Runtime's log level: its errors reach the user through exceptions, not through its own lines."""
_GROW_AS_REQUESTED = 1
"""``arena_extend_strategy`` of ONNX Runtime."""
_NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
"""What it calls an operation that it lacks for a type."""
_CPU = ["CPUExecutionProvider"]

Feeds = Mapping[str, Pixels]
"""Input name -> array."""


class OnnxSessions:
    """Runs one graph, one call after the other or many in a stream.

    Attributes:
        session: Has all cores, or the GPU.
        device: ``ONNX Runtime`` and the provider that it really uses.
        on_cpu: Whether that is the CPU.
        for_smallest: What an input of one pixel needs in the place of other feeds; may be changed.
    """

    def __init__(self, path: Path, *, threads: int | None, cpu_only: bool = False) -> None:
        """Load ``path``.

        Args:
            path: An ONNX file.
            threads: CPU threads; None: as many as cores may be used.
            cpu_only: Leave a GPU alone.

        Raises:
            ArtefactError: ONNX Runtime refuses the file.
            MissingDependencyError: onnxruntime is not installed.
        """
        self._path = path
        self.session: Any = _open_session(path, threads, cpu_only=cpu_only)
        provider = self.session.get_providers()[0]
        self.device, self.on_cpu = f"ONNX Runtime {provider}", provider == _CPU[0]
        self.workers = (threads or usable_cores()) if self.on_cpu else 1
        self.for_smallest: Feeds = {}
        self._narrow_session: Any = None
        self._latest_shape: tuple[int, ...] = ()

    @property
    def workers(self) -> int:
        """Calls that are computed at a time, of all streams together; to be changed between streams only."""
        return self._workers

    @workers.setter
    def workers(self, count: int) -> None:
        self._workers, self._slots = count, threading.BoundedSemaphore(count)

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``outputs``.

        Raises:
            ArtefactError: ONNX Runtime refuses.
        """
        return self._run_in(self.session, outputs, feeds)

    def stream(self, outputs: Sequence[str], many: Iterable[Feeds]) -> Generator[list[Pixels], None, None]:
        """Compute ``outputs`` for many feeds, in order; on a CPU one per core at a time.

        All cores on one call lose some time to waiting for each other. The feeds are taken at most twice as many ahead.
        """
        remaining = iter(many)
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: list[Future[list[Pixels]]] = []
            try:
                while len(chunk := list(islice(remaining, self.workers))) == self.workers > 1:
                    submitted = [pool.submit(self._run_in, self._narrow(), outputs, feeds) for feeds in chunk]
                    ahead, ready = submitted, ahead
                    yield from (job.result() for job in ready)
                yield from (job.result() for job in ahead)
            finally:
                pool.shutdown(cancel_futures=True)
        # Too few for all cores: all of them for one after the other.
        yield from (self.run(outputs, feeds) for feeds in chain(chunk, remaining))

    def _narrow(self) -> Any:
        """Give a session of one thread, which several threads may use at a time."""
        if self._narrow_session is None:
            self._narrow_session = _open_session(self._path, 1, cpu_only=True)
            give_back_freed()
        return self._narrow_session

    def _run_in(self, session: Any, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        self._tidy_for(feeds)
        try:
            with self._slots:
                results: list[Pixels] = session.run(list(outputs), dict(feeds))
        except Exception as error:  # its exceptions have no common public base
            raise ArtefactError(
                f"ONNX Runtime could not run {self._path} on an input of {feeds[INPUT_NAME].shape}: {error}.",
                "If memory ran out, give a smaller --tile.",
            ) from error
        return results

    def _tidy_for(self, feeds: Feeds) -> None:
        """Give back what another shape left in the arena, which is of no use for this one."""
        shape = feeds[INPUT_NAME].shape
        changed = self._latest_shape not in ((), shape)
        self._latest_shape = shape
        if changed and self.on_cpu and self._takes_any_size():
            # Only a run can ask for it: one of the smallest input.
            smallest = {**feeds, INPUT_NAME: feeds[INPUT_NAME][:1, :1, :1], **self.for_smallest}
            self.session.run(None, smallest, _shrinking_run())
            give_back_freed()

    def _takes_any_size(self) -> bool:
        height, width = self.session.get_inputs()[0].shape[1:3]
        return isinstance(height, str) and isinstance(width, str)

    def close(self) -> None:
        """Drop the sessions, which frees their memory."""
        self.session = self._narrow_session = None


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
        hint = "Export it again with `drc-deploy export`."
        if _NOT_IMPLEMENTED in str(error):
            hint = "A CPU runs fp32 and fp16 files, but no bf16: export with another --precision."
        raise ArtefactError(f"ONNX Runtime cannot load {path}: {error}.", hint) from error


@functools.cache
def _register_exact_arena() -> None:
    """Let the CPU sessions of this process share an arena that grows by what is needed, instead of by powers of two."""
    ort = _import_onnxruntime()
    map_large_blocks()  # the arena's too
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
