"""One network for many images at a time: tiles that are asked for together are computed together.

Each image is upscaled in a thread of its own by an ``Upscaler`` as anywhere else. Its network is a ``SharedBackend``,
which queues its tiles; one thread takes what is queued, whichever images it is of, and computes that in one stream.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from queue import Empty, SimpleQueue

import numpy as np

from drc_deploy.engine_info import EngineInfo
from drc_deploy.runtime.backends.contract import Backend, Pixels


@dataclass(frozen=True, slots=True)
class _Call:
    """A batch that was asked for, and the promise of its result."""

    batch: Pixels
    future: "Future[Pixels]" = field(default_factory=Future)


class TileQueue:
    """The tiles of many images on their way through one network.

    Attributes:
        ahead: Tiles of one image that may be queued: no image has the network for itself while others wait.
    """

    def __init__(self, backend: Backend) -> None:
        """Begin to compute with ``backend``, which nothing else may use until this is closed."""
        self._backend = backend
        self.ahead = 2 * backend.workers * backend.preferred_batch
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tiles", daemon=True)
        self._thread.start()

    def submit(self, batch: Pixels) -> "Future[Pixels]":
        """Queue a batch for ``Backend.run``, and return the promise of its result; it may be cancelled."""
        call = _Call(batch)
        self._calls.put(call)
        return call.future

    def close(self) -> None:
        """Compute what is queued, and end."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._calls.get()) is not None:
            calls, ended = self._at_hand(first)
            for _, alike in groupby(calls, key=lambda call: call.batch.shape[1:]):
                self._compute([call for call in alike if call.future.set_running_or_notify_cancel()])
            if ended:
                return

    def _at_hand(self, first: _Call) -> tuple[list[_Call], bool]:
        """Return what is queued by now, equal shapes next to each other, and whether nothing follows."""
        calls: list[_Call] = [first]
        ended = False
        while len(calls) < 2 * self.ahead and not ended:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            ended = call is None
            calls += [call] if call else []
        return sorted(calls, key=lambda call: call.batch.shape), ended

    def _compute(self, calls: list[_Call]) -> None:
        size = self._backend.preferred_batch
        groups = [calls[first : first + size] for first in range(0, len(calls), size)]
        waiting = iter(calls)
        try:
            for results in self._backend.stream(np.concatenate([call.batch for call in group]) for group in groups):
                for result in results:
                    next(waiting).future.set_result(result[None])
        except Exception as error:  # whatever it is, it is for who waits for the result
            for call in waiting:
                call.future.set_exception(error)


class SharedBackend(Backend):
    """A network whose tiles are computed together with those of other images."""

    def __init__(self, backend: Backend, queue: TileQueue) -> None:
        """Stand for ``backend``, which ``queue`` computes with."""
        self._backend, self._queue = backend, queue

    @property
    def info(self) -> EngineInfo:
        """Of the network."""
        return self._backend.info

    @property
    def device(self) -> str:
        """Of the network."""
        return self._backend.device

    @property
    def preferred_batch(self) -> int:
        """One: tiles of several images are joined to batches later."""
        return 1

    def run(self, batch: Pixels) -> Pixels:
        """Upscale one tile; see ``Backend.run``."""
        return self._queue.submit(batch).result()

    def stream(self, batches: Iterable[Pixels]) -> Generator[Pixels, None, None]:
        """Upscale many tiles; see ``Backend.stream``."""
        under_way: deque[Future[Pixels]] = deque()
        try:
            for batch in batches:
                under_way.append(self._queue.submit(batch))
                if len(under_way) == self._queue.ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def close(self) -> None:
        """Do nothing: others use the network."""
        return None
