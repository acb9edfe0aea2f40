"""Reading, computing and writing at the same time: one thread reads ahead, one writes behind, the caller computes.

    reader    read 2 ........ read 3 ........
    caller    compute 1 ..... compute 2 .....
    writer    write 0 ..      write 1 ..

What waits between them is bounded: one item that was read, and one item on its way to the writer. The caller is the
main thread, so that Ctrl-C reaches it at once; what it was making is then abandoned, and the threads end with it.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Semaphore
from typing import Generic, TypeVar

from drc_deploy.runtime.backends.worker_pool import Item, Result, one_worker

Source = TypeVar("Source")


class Abandoned(Exception):  # noqa: N818  # not a fault: it ends the receiver
    """Raised in the receiver: the sender failed, and there will be no whole."""


class ReceiverGone(Exception):  # noqa: N818  # the receiver's own error is what counts
    """Raised in the sender: the receiver failed or has had enough."""


class Handover(Generic[Item]):
    """Passes items from one thread to another, one at a time.

    An item counts until the receiver asks for the next one: while it works on one, the sender can make another, and no
    third exists. Before the receiver begins, one item can wait for it.
    """

    def __init__(self) -> None:
        self._items: SimpleQueue[Item | None] = SimpleQueue()
        """None says that no more come."""
        self._free = Semaphore()
        """Free while no item counts."""
        self._abandoned = self._receiver_gone = False

    def put(self, item: Item) -> None:
        """Hand over ``item``, as soon as the receiver is done with the one before.

        Raises:
            ReceiverGone: it will never be.
        """
        self._free.acquire()
        if self._receiver_gone:
            raise ReceiverGone
        self._items.put(item)

    def end(self, *, abandoned: bool) -> None:
        """Say that there are no more items, or that the missing ones will never come."""
        self._abandoned = abandoned
        self._items.put(None)

    def received_by(self, consume: Callable[[Iterator[Item]], Result]) -> Result:
        """Let ``consume`` take the items, in the receiving thread, and return its result.

        Raises:
            Abandoned: out of the iterator, when the sender gave up.
        """
        try:
            return consume(self._received())
        finally:
            self._receiver_gone = True
            self._free.release()

    def _received(self) -> Iterator[Item]:
        while (item := self._items.get()) is not None and not self._abandoned:
            yield item
            del item  # before the next one is waited for
            self._free.release()
        if self._abandoned:
            raise Abandoned


class WriteBehind:
    """Writes one whole after the other in a thread, each while its parts, or those of the next, are being made."""

    def __init__(self) -> None:
        self._pool = one_worker()
        self._unfinished: deque[Future[object]] = deque()

    def write(self, parts: Iterable[Item], consume: Callable[[Iterator[Item]], Result]) -> "Future[Result]":
        """Make ``parts`` in this thread while ``consume`` takes them in the other; return when all are made.

        Of the wholes before, at most one is still being written when this one is begun.

        Returns:
            The future result of ``consume``; when it raises early, the rest of the parts is not made.

        Raises:
            Exception: whatever making ``parts`` raises; ``consume`` then meets ``Abandoned``.
        """
        self.wait_for_all_but(1)
        handover: Handover[Item] = Handover()
        try:
            # In here too: when Ctrl-C comes while the thread is handed its job, it begins it all the same.
            future = self._pool.submit(handover.received_by, consume)
            for part in parts:
                handover.put(part)
                del part  # before the next one is made
            handover.end(abandoned=False)
        except ReceiverGone:
            wait([future])  # its error is there when this returns
            return future
        except BaseException:
            handover.end(abandoned=True)
            raise
        self._unfinished.append(future)  # type: ignore[arg-type]  # only waited for
        return future

    def wait_for_all_but(self, count: int) -> None:
        """Wait until at most ``count`` wholes are still being written."""
        while len(self._unfinished) > count:
            wait([self._unfinished.popleft()])

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(self, *error: object) -> None:
        """Wait until what is whole is written and what was abandoned is cleaned up."""
        self._pool.shutdown()


def made_ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yield ``items``, each made in a thread while the caller works on the one before.

    Close the iterator when leaving it early (``contextlib.closing``), which closes ``items`` too.
    """
    with one_worker() as pool:
        try:
            following = pool.submit(next, items, None)
            while (item := following.result()) is not None:
                following = pool.submit(next, items, None)
                yield item
        finally:
            pool.submit(items.close)


def read_ahead(
    sources: Sequence[Source], read: Callable[[Source], Result], *, early: Callable[[Source], bool]
) -> "Generator[Future[Result], None, None]":
    """Read ``sources`` in a thread: while the caller works on one, the next is read.

    Close the iterator when leaving it early (``contextlib.closing``).

    Args:
        sources: what to read, in order.
        read: reads one.
        early: whether there is room to read this one while the one before is still held.

    Yields:
        For each source the result or error of ``read``.
    """
    with one_worker() as pool:
        ahead: Future[Result] | None = None
        try:
            for index, source in enumerate(sources):
                current = ahead or pool.submit(read, source)
                following = sources[index + 1 : index + 2]
                ahead = pool.submit(read, following[0]) if following and early(following[0]) else None
                yield current
                del current  # or it would be held while the one after the next is read
        finally:
            if ahead is not None:
                ahead.cancel()
