"""Requests on their way: a bounded number of them, each in a thread, watched by who asked for it."""

import asyncio
import math
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drc_deploy.errors import ArtefactError
from drc_deploy.files import scratch_folder
from drc_deploy.runtime.memory.heap import give_back_freed
from drc_deploy.runtime.service.engines import ServedEngine
from drc_deploy.runtime.service.measures import Measures
from drc_deploy.runtime.service.room import Room
from drc_deploy.runtime.service.work import Made, Wanted, Watch, make
from drc_deploy.runtime.stopping import awaited

_MEMORY = 0.2
"""How much the latest request counts in the mean time of one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service takes."""

    queue: int = 64
    """Requests that may wait for each engine; more are sent away."""
    body_bytes: int = 64 << 20
    seconds: float = 300.0
    """For each of receiving an image, making its result, and sending that."""


class Service:
    """The engines of a service and the requests that are under way.

    Attributes:
        engines: By name, the first is the default.
        limits: What it takes.
        measures: What it reports of itself.
        ending: Whether it takes no more requests.
        folder: Of the files of requests.
    """

    def __init__(self, engines: Sequence[ServedEngine], limits: Limits) -> None:
        """Take loaded ``engines``, which are closed together with this object."""
        self.engines = {engine.name: engine for engine in engines}
        self.limits, self.measures, self.ending = limits, Measures(), False
        # More than can be computed: while some are read or written, the network works on others. Each engine has its
        # own, or requests for a busy one would keep those for others waiting.
        threads = {engine.name: engine.threads for engine in engines}
        self._pools = {name: ThreadPoolExecutor(count, f"requests for {name}") for name, count in threads.items()}
        self._room = Room()
        self._watched: dict[str, Watch] = {}
        self._under_way: Counter[str] = Counter()
        """By engine."""
        self._mean_s = 1.0
        self._scratch = ExitStack()
        self.folder = self._scratch.enter_context(scratch_folder())

    def is_full(self, engine: ServedEngine) -> bool:
        """Return whether one more request for an engine would be too many."""
        return self._under_way[engine.name] >= engine.threads + self.limits.queue

    @property
    def under_way(self) -> int:
        """How many requests have no answer yet."""
        return self._under_way.total()

    @property
    def retry_after(self) -> int:
        """Seconds until there should be a place again."""
        return min(max(math.ceil(self._mean_s), 1), 120)

    def admit(self, name: str, engine: ServedEngine) -> "Place":
        """Return a place for a request called ``name``; there must be one."""
        return Place(self, name, engine)

    def watched(self, name: str) -> tuple[Watch, int] | None:
        """Return how a request is getting on, and how many were taken before it and are not computed yet."""
        watch = self._watched.get(name)
        if watch is None:
            return None
        earlier = list(self._watched.values())
        return watch, sum(other.stage == "queue" for other in earlier[: earlier.index(watch)])

    def close(self) -> None:
        """Finish what is under way, and free the engines."""
        self.ending = True
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)  # of what the server has ended waiting for
        for engine in self.engines.values():
            engine.close()
        self._scratch.close()


class Place:
    """The place of one request, with a folder for its files, until it is left.

    Attributes:
        engine: The network that is asked for.
        folder: Where its files are.
        watch: How it is getting on.
    """

    def __init__(self, service: Service, name: str, engine: ServedEngine) -> None:
        """Take it."""
        self._service, self._name, self.engine, self.watch = service, name, engine, Watch()
        self._folder = tempfile.TemporaryDirectory(dir=service.folder, ignore_cleanup_errors=True)
        self._job: Future[Made] | None = None
        self.folder = Path(self._folder.name)
        service._under_way[engine.name] += 1
        service._watched[name] = self.watch
        service.measures.under_way.inc()

    async def compute(self, wanted: Wanted, gone: Callable[[], Awaitable[None]]) -> Made:
        """Upscale ``folder/image`` when its turn comes.

        Args:
            wanted: What is asked for.
            gone: Waits until the caller has gone away; the request is stopped then.

        Raises:
            DrcDeployError: as for ``make``.
        """
        service, engine, start = self._service, self.engine, time.perf_counter()

        def work() -> Made:
            service.measures.waiting.dec()
            self.watch.seconds["queue"] = time.perf_counter() - start
            self.watch.check()
            try:
                with engine.upscaler() as upscaler:
                    return make(upscaler, self.folder, wanted, self.watch, service._room)
            finally:
                give_back_freed()  # each thread has a heap, and images of random sizes leave holes in it

        service.measures.waiting.inc()
        self._job = job = service._pools[engine.name].submit(work)
        leaving = asyncio.ensure_future(gone())
        try:
            with awaited(job, self.watch, "this request was stopped: the service ends.") as result:
                both: set[asyncio.Future[Any]] = {result, leaving}
                await asyncio.wait(both, timeout=service.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
                if not result.done():
                    why = "the caller has gone" if leaving.done() else f"it took more than {service.limits.seconds:g} s"
                    self.watch.stop(f"this request was stopped: {why}.")
                    self.watch.check()
                made = await result
        finally:
            leaving.cancel()
            if job.cancelled():
                service.measures.waiting.dec()
        taken = time.perf_counter() - start
        service._mean_s += _MEMORY * (taken - service._mean_s)
        service.measures.finished(self.watch)
        return made

    def leave(self) -> None:
        """Leave the place to others, and remove the files: when the work has ended, which may not stop at once."""
        if self._job and not self._job.done():
            loop = asyncio.get_running_loop()

            def ended(_: object) -> None:
                try:
                    loop.call_soon_threadsafe(self._leave)
                except RuntimeError:  # the service has ended before
                    self._folder.cleanup()

            self._job.add_done_callback(ended)
        else:
            self._leave()

    def _leave(self) -> None:
        self._service._under_way[self.engine.name] -= 1
        self._service._watched.pop(self._name, None)
        self._service.measures.under_way.dec()
        self._folder.cleanup()


def open_engines(paths: Sequence[Path], threads: int | None) -> list[ServedEngine]:
    """Load engines.

    Raises:
        ArtefactError: two have one name, or one cannot be loaded.
    """
    names = [path.stem for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ArtefactError(f"two engines are called {twice.pop()}.", "Give one of them another name.")
    engines: list[ServedEngine] = []
    try:
        engines.extend(ServedEngine(path, threads=threads) for path in paths)
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return engines
