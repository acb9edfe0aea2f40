"""Work that is queued again and again, recorded once as a CUDA graph: one launch then takes the place of hundreds.

Only the computation is recorded. In one graph with its copies, it could not wait for the computation of another lane
while its own upload runs. Two copies are short compared with the kernels of a network.
"""

import importlib
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

from drc_deploy.errors import ArtefactError

_log = logging.getLogger(__name__)

Enqueue = Callable[[int], None]
"""Queues work on the stream with this handle; raises ArtefactError where the library refuses."""


class GraphRecorder:
    """Records work through cuda-python, as long as it ``works``: not after the first failure."""

    def __init__(self, name: str, api: ModuleType | None) -> None:
        """Make a recorder for the plan of this name; ``api`` is ``load_graph_api()``, None records nothing."""
        self._name = name
        self.api: Any = api
        self.works = api is not None

    def record(self, enqueue: Enqueue, stream: int) -> Any | None:
        """Record what ``enqueue`` queues on ``stream``, without running it; None where that is not possible."""
        try:
            graph = self._capture(enqueue, stream)
            try:
                return check(self.api, self.api.cuGraphInstantiate(graph, 0))
            finally:
                self.api.cuGraphDestroy(graph)
        except (ArtefactError, RuntimeError) as error:  # the latter of cuda-python, where the driver lacks a function
            _log.warning("%s runs without CUDA graphs: %s.", self._name, error)
            self.works = False
            return None

    def _capture(self, enqueue: Enqueue, stream: int) -> Any:
        # Only this thread may not touch the GPU otherwise meanwhile: others, of other libraries, go on.
        mode = self.api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(self.api, self.api.cuStreamBeginCapture(stream, mode))
        try:
            enqueue(stream)
        except BaseException:
            # Ended whatever happens, or the stream would never run anything again.
            status, graph = self.api.cuStreamEndCapture(stream)
            if status == self.api.CUresult.CUDA_SUCCESS:
                self.api.cuGraphDestroy(graph)
            raise
        return check(self.api, self.api.cuStreamEndCapture(stream))


class RepeatedCall:
    """The same work on the same stream: queued as it is at first, from the second time on as a graph.

    TensorRT finishes what new shapes and addresses ask for in the first call, which may not be recorded.
    """

    def __init__(self, enqueue: Enqueue, stream: int, recorder: GraphRecorder) -> None:
        self._enqueue, self._stream, self._recorder = enqueue, stream, recorder
        self._queued = False
        self._graph: Any = None

    def queue(self) -> None:
        """Queue the work.

        Raises:
            ArtefactError: the library or the driver refused.
        """
        if self._graph is None and self._queued and self._recorder.works:
            self._graph = self._recorder.record(self._enqueue, self._stream)
        if self._graph is None:
            self._enqueue(self._stream)
            self._queued = True
        else:
            check(self._recorder.api, self._recorder.api.cuGraphLaunch(self._graph, self._stream))

    def close(self) -> None:
        """Destroy the graph; the work must be done."""
        if self._graph is not None:
            self._recorder.api.cuGraphExecDestroy(self._graph)
            self._graph = None


def load_graph_api() -> ModuleType | None:
    """Import the driver functions of cuda-python, since pycuda has no graphs; None where it is not installed."""
    for name in ("cuda.bindings.driver", "cuda.cuda"):
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):
            continue
    return None


def check(api: Any, answer: tuple[Any, ...]) -> Any:
    """Return the result in an answer of cuda-python: a status, then the result if there is one.

    Raises:
        ArtefactError: the status is an error.
    """
    status, *results = answer
    if status != api.CUresult.CUDA_SUCCESS:
        raise ArtefactError(f"the driver says {status.name}")
    return results[0] if results else None
