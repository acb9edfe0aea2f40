"""Tiles through torch on a CPU: one per core at a time, each in one thread. Of a blind network, also on a GPU."""

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial

import numpy as np
import torch

from drc_deploy.engine_info import INPUT_NAME, KERNEL_NAME, OUTPUT_NAME
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds, GraphRunner
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
from drc_deploy.runtime.backends.worker_pool import Item, Result, in_workers


class CpuTiles(GraphRunner):
    """Runs batches of tiles; of a stream at most as many at a time as ``use_threads`` returned."""

    def __init__(self, network: TileNetwork, workers: int) -> None:
        self._network, self.device, self.workers = network, network.name, workers
        self._threads = workers

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Upscale a batch with all threads; see ``GraphRunner.run``. Of a blind network, estimate its kernels too."""
        tiles = torch.from_numpy(np.ascontiguousarray(feeds[INPUT_NAME])).to(self._network.device)
        kernel = torch.from_numpy(feeds[KERNEL_NAME]) if KERNEL_NAME in feeds else None
        compute = {
            OUTPUT_NAME: partial(self._network, tiles, kernel),
            KERNEL_NAME: partial(self._network.kernels, tiles),
        }
        return [compute[name]().cpu().numpy() for name in outputs]

    def stream(self, outputs: Sequence[str], many: Iterable[Feeds]) -> Generator[list[Pixels], None, None]:
        """Compute many feeds; see ``GraphRunner.stream`` and ``in_workers``."""
        run = partial(self.run, outputs)
        alone, with_all = partial(_in_threads, 1, run), partial(_in_threads, self._threads, run)
        return in_workers(many, self.workers, lambda: alone, with_all)


def use_threads(threads: int | None) -> int:
    """Let torch use ``threads`` threads in this one, None: its own choice; return how many it uses."""
    threads = threads or torch.get_num_threads()
    # Set even where it changes nothing: what another thread sets holds for all that have set nothing yet.
    torch.set_num_threads(threads)
    return threads


def _in_threads(count: int, compute: Callable[[Item], Result], item: Item) -> Result:
    # Of this thread: one that has set nothing has what another one set last.
    torch.set_num_threads(count)
    return compute(item)
