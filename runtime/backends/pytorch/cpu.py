"""Tiles through torch on a CPU: one per core at a time, each in one thread."""

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial

import numpy as np
import torch

from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
from drc_deploy.runtime.backends.worker_pool import Item, Result, in_workers


class CpuTiles:
    """Runs batches of tiles.

    Attributes:
        workers: Batches of a stream that are computed at a time; may be lowered.
    """

    def __init__(self, network: TileNetwork, threads: int | None) -> None:
        """Take the network; ``threads``: as for ``use_threads``."""
        self._network = network
        self.workers = use_threads(threads)

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch with all threads."""
        result: Pixels = self._network(torch.from_numpy(np.ascontiguousarray(batch))).numpy()
        return result

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches."""
        return in_threads(batches, self.workers, self.run)


def use_threads(threads: int | None) -> int:
    """Let torch use ``threads`` threads in this one, None: its own choice; return how many it uses."""
    threads = threads or torch.get_num_threads()
    # Set even where it changes nothing: what another thread sets holds for all that have set nothing yet.
    torch.set_num_threads(threads)
    return threads


def in_threads(items: Iterable[Item], workers: int, compute: Callable[[Item], Result]) -> Generator[Result, None, None]:
    """Compute every item in torch; see ``in_workers``."""
    return in_workers(items, workers, lambda: partial(_in_one_thread, compute), compute)


def _in_one_thread(compute: Callable[[Item], Result], item: Item) -> Result:
    torch.set_num_threads(1)  # of this thread: those that have set theirs keep it
    return compute(item)
