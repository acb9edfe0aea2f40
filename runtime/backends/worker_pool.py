"""Threads that work for another: one, or one per core for many pieces of work of equal size."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_worker() -> ThreadPoolExecutor:
    """Return an executor of one thread, which runs already.

    At its end an executor does not wait for a thread whose start Ctrl-C interrupted. That thread would go on with its
    work whatever the process does next.
    """
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(int).result()
    except BaseException:
        pool.shutdown(wait=False)  # or such a thread would wait for work for ever
        raise
    return pool


def in_workers(
    items: Iterable[Item],
    workers: int,
    for_workers: Callable[[], Callable[[Item], Result]],
    on_all_cores: Callable[[Item], Result],
) -> Generator[Result, None, None]:
    """Compute every item, and yield the results in order.

    All cores on one item lose some time to waiting for each other. The items are taken at most twice as many ahead.
    When Ctrl-C comes while a thread starts, that thread may still be computing an item when this has ended.

    Args:
        items: What to compute.
        workers: Items computed at a time.
        for_workers: Returns what computes one item in each of ``workers`` threads; called only where there are enough.
        on_all_cores: Computes one item of those that are too few for all cores; called by this thread.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        ahead: list[Future[Result]] = []
        try:
            while len(chunk := list(islice(remaining, workers))) == workers > 1:
                compute = for_workers()
                submitted = [pool.submit(compute, item) for item in chunk]
                ahead, ready = submitted, ahead
                yield from (job.result() for job in ready)
            yield from (job.result() for job in ahead)
        finally:
            pool.shutdown(cancel_futures=True)
    yield from (on_all_cores(item) for item in chain(chunk, remaining))
