"""Work in another thread that ends soon after nobody waits for it any more."""

import asyncio
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from drc_deploy.errors import DrcDeployError
from drc_deploy.runtime.backends.worker_pool import Result


class StoppedError(DrcDeployError):
    """Whoever asked for this has gone, or the time is over."""


@dataclass(slots=True, eq=False)
class Stop:
    """Asks work in another thread to end, which ``check``s now and then."""

    _asked: threading.Event = field(default_factory=threading.Event)
    _why: str = ""

    def stop(self, why: str) -> None:
        """Have the work end at its next ``check``, in a StoppedError of ``why``."""
        self._why = why
        self._asked.set()

    def check(self) -> None:
        """Go on.

        Raises:
            StoppedError: someone has asked for that.
        """
        if self._asked.is_set():
            raise StoppedError(self._why, "Send a smaller image, or fewer at a time.")


def _release(job: "Future[Result]") -> None:
    """Let the error of a job hold nothing that its functions had, such as the image.

    Futures and their callbacks refer to each other, and so to the error and its frames: until the garbage collector
    comes, which does so rarely in a process with as many objects as torch has.
    """
    error = None if job.cancelled() else job.exception()
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def awaited(job: "Future[Result]", stop: Stop, why: str) -> "Iterator[asyncio.Future[Result]]":
    """Yield ``job`` for the loop of this thread to wait for; when the block is left sooner, end the job.

    Args:
        job: In another thread, or waiting for one: then it never begins.
        stop: What the job checks.
        why: It is stopped.
    """
    job.add_done_callback(_release)  # before the loop hears of the end
    result = asyncio.wrap_future(job)
    try:
        yield result
    finally:
        if not job.done():
            result.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody waits for it
            stop.stop(why)
            job.cancel()
