"""One network for many images at a time: tiles that are asked for together are computed together.

Each image is upscaled in a thread of its own by an ``Upscaler`` as anywhere else. Its network is a ``SharedBackend``,
which queues its tiles; one thread takes what is queued, whichever images it is of, and computes that in one stream.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np

from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Backend, Pixels

_ANEW = "Make the engine again with `drc-deploy export`."


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
        self._taken: deque[_Call] = deque()
        """Calls without a result, in the order of their batches."""
        self._batch_sizes: deque[int] = deque()
        self._ended = False
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
        while first := self._next(wait=True):
            try:
                for results in self._backend.stream(self._batches(first)):
                    if len(results) != (count := self._batch_sizes.popleft()):
                        raise ArtefactError(f"the network gave {len(results)} results for {count} tiles.", _ANEW)
                    for result in results:
                        self._taken.popleft().future.set_result(result[None])
                if self._taken:
                    raise ArtefactError(f"the network gave no result for {len(self._taken)} tiles.", _ANEW)
            except Exception as error:  # whatever it is, it is for who waits for the result
                while self._taken:
                    self._taken.popleft().future.set_exception(error)
            self._batch_sizes.clear()

    def _batches(self, first: _Call) -> Iterator[Pixels]:
        """Yield what is queued, until nothing is: equal shapes that follow each other in one batch."""
        following: _Call | None = first
        while following:
            tiles, following = [following.batch], None
            while len(tiles) < self._backend.preferred_batch and not following and (call := self._next()):
                if call.batch.shape == tiles[0].shape:
                    tiles.append(call.batch)
                else:
                    following = call
            self._batch_sizes.append(len(tiles))
            yield np.concatenate(tiles)
            following = following or self._next()

    def _next(self, *, wait: bool = False) -> _Call | None:
        """Take the next call that still matters; None where there is none now or, with ``wait``, ever again."""
        while not self._ended:
            try:
                call = self._calls.get(block=wait)
            except Empty:
                return None
            if call is None:
                self._ended = True
            elif call.future.set_running_or_notify_cancel():
                self._taken.append(call)
                return call
        return None


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
