"""Runs an exported ONNX file with ONNX Runtime: on the CPU everywhere, with CUDA or OpenVINO where the package can.

A file has one session with all cores or the GPU, and on a CPU one for many calls of one core each.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds, GraphBackend, GraphRunner
from drc_deploy.runtime.backends.ort.bound_runs import BoundRuns
from drc_deploy.runtime.backends.ort.providers import CPU, CUDA, import_onnxruntime, open_for_streams, open_session
from drc_deploy.runtime.backends.worker_pool import in_workers
from drc_deploy.runtime.loaded_file import LoadedFile
from drc_deploy.runtime.memory.heap import give_back_freed
from drc_deploy.runtime.memory.host import usable_cores

_TENSOR_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
CUDA_CALLS = 3
"""Of a stream on a GPU: one that is uploaded, one that is computed, one that is downloaded."""

Run = Callable[[Sequence[str], Feeds], list[Pixels]]
"""Computes the named outputs."""


class OnnxSessions(GraphRunner):
    """Runs one graph, one call after the other or many in a stream.

    Attributes:
        session: Has all cores, or the GPU.
        device: ``ONNX Runtime`` and the provider that it really uses.
        on_cpu: Whether the cores of the CPU compute.
        for_smallest: Other inputs for the smallest image; may be changed.
        smallest_px: Side of the smallest image; may be changed.
    """

    _in_arena: ClassVar[tuple[Path, int] | None] = None
    """Which file ran on how large an input since memory was given back: all sessions of the process share an arena."""

    def __init__(self, path: Path, *, threads: int | None, cpu_only: bool = False) -> None:
        """Load ``path``; see ``open_session``."""
        self._path, self._file = path, LoadedFile(path)
        self.session: Any = self._file.load(partial(open_session, path, threads, cpu_only=cpu_only))
        self._provider: str = self.session.get_providers()[0]
        self.device, self.on_cpu = f"ONNX Runtime {self._provider}", self._provider != CUDA
        self.workers = (threads or usable_cores()) if self.on_cpu else CUDA_CALLS
        self.for_smallest: Feeds = {}
        self.smallest_px = 1
        self._bound = None if self.on_cpu else BoundRuns(self.session, "cuda")
        self._narrow_session: Any = None

    @property
    def workers(self) -> int:
        """Calls that are computed at a time, of all streams together; to be changed between streams only."""
        return self._workers

    @workers.setter
    def workers(self, count: int) -> None:
        self._workers, self._slots = count, threading.BoundedSemaphore(count)

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``outputs``; see ``GraphRunner.run``."""
        return self._compute(self._bound.run if self._bound else self.session.run, outputs, feeds)

    def stream(self, outputs: Sequence[str], many: Iterable[Feeds]) -> Generator[list[Pixels], None, None]:
        """Compute ``outputs`` for many feeds, in order; on a CPU one per core at a time (see ``in_workers``).

        On a GPU the copies of one call run during the computation of another.
        """
        yield from in_workers(
            many,
            self.workers,
            lambda: partial(self._compute, self._one_of_many(), outputs),
            partial(self.run, outputs),
        )

    def _one_of_many(self) -> Run:
        """Return what computes one call in a thread while others run; the file must be that of the first session."""
        if self._bound:
            return self._bound.run
        if self._narrow_session is None:
            open_narrow = partial(open_for_streams, self._file.path, self._provider, self.workers)
            self._narrow_session = self._file.load(open_narrow)
            give_back_freed()
        run: Run = self._narrow_session.run
        return run

    def _compute(self, run: Run, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        self._tidy_for(feeds)
        try:
            with self._slots:
                return run(list(outputs), dict(feeds))
        except Exception as error:  # its exceptions have no common public base
            raise ArtefactError(
                f"ONNX Runtime could not run {self._path} on an input of {feeds[INPUT_NAME].shape}: {error}.",
                "If memory ran out, give a smaller --tile.",
            ) from error

    def _tidy_for(self, feeds: Feeds) -> None:
        """Free what smaller inputs or another graph left in the arena, where it would leave gaps.

        A smaller input finds room in what a larger one left: to ask the system for new memory takes a sixth of the time
        of a small network.
        """
        if self._provider != CPU:
            return
        before, now = OnnxSessions._in_arena, (self._path, feeds[INPUT_NAME].size)
        if before is None:
            OnnxSessions._in_arena = now
        elif before[0] != self._path or before[1] < now[1]:
            OnnxSessions._in_arena = now
            self._shrink_arena()

    def give_back(self) -> None:
        """Free what was taken for the latest runs, where that is known to be possible."""
        if self._provider == CPU and OnnxSessions._in_arena is not None:
            OnnxSessions._in_arena = None
            self._shrink_arena()

    def _shrink_arena(self) -> None:
        if all(isinstance(side, str) for side in self.session.get_inputs()[0].shape[1:3]):  # takes any size
            # Only a run can ask for it: one of the smallest input.
            dtype = np.uint8 if "uint8" in self.session.get_inputs()[0].type else np.float32
            smallest = {INPUT_NAME: np.zeros((1, self.smallest_px, self.smallest_px, 3), dtype), **self.for_smallest}
            options = import_onnxruntime().RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
            self.session.run(None, smallest, options)
            give_back_freed()

    def close(self) -> None:
        """Drop the sessions, which frees their memory."""
        if self._bound:
            self._bound.close()
        self._bound = None
        self.session = self._narrow_session = None


class OnnxRuntimeBackend(GraphBackend):
    """ONNX Runtime over a file that ``drc-deploy export`` wrote."""

    def __init__(self, path: Path, *, threads: int | None = None, cpu_only: bool = False) -> None:
        """Load ``path``; see ``open_backend``. ``cpu_only``: take the CPU provider."""
        self._sessions = OnnxSessions(path, threads=threads, cpu_only=cpu_only)
        super().__init__(self._sessions, read_info(self._sessions.session, path))
        self._sessions.smallest_px = self.info.taken_side(1)
        _check_tensors(self._sessions.session, self.info, path)

    @property
    def preferred_batch(self) -> int:
        """One on a CPU, where more only cost memory."""
        return self._batch or (1 if self._sessions.on_cpu else self.info.max_batch)


def _check_tensors(session: Any, info: EngineInfo, path: Path) -> None:
    """Refuse a graph whose input and output are not what its metadata says."""
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    tensor = _TENSOR_TYPES[info.io_dtype]
    shape = session.get_inputs()[0].shape
    wrong = ""
    if inputs != [(INPUT_NAME, tensor)] or outputs != [(OUTPUT_NAME, tensor)]:
        wrong = f"takes {inputs} and gives {outputs}"
    elif not _takes_images(shape, info.tile):
        wrong = f"takes an input of shape {shape}"
    if wrong:
        raise ArtefactError(
            f"{path} {wrong}, which is not what its metadata says.", "Export it again with `drc-deploy export`."
        )


def _takes_images(shape: Sequence[Any], tile: tuple[int, int] | None) -> bool:
    """Return whether an input of ``shape``, with integers only where it is fixed, takes (N, H, W, 3) tiles."""
    if len(shape) != 4 or (isinstance(shape[3], int) and shape[3] != 3):
        return False
    sides = tuple(shape[1:3])
    return sides == tile or not any(isinstance(side, int) for side in sides)


def read_info(session: Any, path: Path) -> EngineInfo:
    """Read the metadata of a loaded file.

    Raises:
        ArtefactError: there is none, or it is damaged.
    """
    try:
        metadata = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise ArtefactError(
            f"{path} is damaged: its metadata are no text.", "Copy it again, or export it again."
        ) from error
    return EngineInfo.from_metadata(metadata, path)
