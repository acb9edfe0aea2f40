"""Exact tiles of a checkpoint: the means that its network takes over the whole tile can be read and replaced.

It offers the same names as an exact graph (``export/graph/exact_graph.py``), for ``runtime/tiling/exact.py``.
"""

import threading
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from drc_deploy.engine_info import (
    GIVEN_NAME,
    INPUT_NAME,
    KEPT_NAME,
    KERNEL_NAME,
    MEANS_NAME,
    OUTPUT_NAME,
    SEEN_NAME,
)
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds
from drc_deploy.runtime.backends.pytorch.cpu import CpuTiles
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
from drc_deploy.runtime.tiling.exact import ExactBackend

_TRIAL_PX = 8
"""Least side of the input that shows how many channels every mean has."""


def exact_backend(network: TileNetwork, workers: int) -> ExactBackend:
    """Return exact tiles of ``network``, ``workers`` at a time; from then on it serves nothing else.

    Raises:
        ArtefactError: something else than means sees the whole tile.
    """
    if not network.network.global_means:
        raise ArtefactError(
            f"{network.info.model} does not declare the means that it takes over a whole tile.", "Leave out --exact."
        )
    runner = ExactRunner(network, workers)
    backend = ExactBackend(runner, network.info, runner.mean_count)
    backend.takes_kernels = network.info.kernel_size is not None
    return backend


class ExactRunner(CpuTiles):
    """Runs a network on tiles with given means, and returns the means of a part of each tile. On a GPU too.

    It stands in the place of all modules that take a mean over the whole tile.

    Attributes:
        mean_count: Number of all channels whose means the network takes.
    """

    def __init__(self, network: TileNetwork, workers: int) -> None:
        super().__init__(network, workers)
        self._names = network.network.global_means
        self._now = threading.local()  # several threads run the network at a time
        for name in self._names:
            network.network.get_submodule(name).forward = partial(self._mean, name)
        side = network.info.taken_side(_TRIAL_PX)
        self._pass(torch.zeros(1, side, side, 3), kept=(0, 0, 1, 1))
        self._places: dict[str, slice] = {}
        self.mean_count = 0
        for name in self._names:
            self._places[name] = slice(self.mean_count, self.mean_count + self._now.seen[name].shape[1])
            self.mean_count = self._places[name].stop

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``OUTPUT_NAME`` or ``SEEN_NAME`` of a batch of one, or both.

        Args:
            outputs: Names of the results.
            feeds: As an exact graph takes them.

        Raises:
            ArtefactError: torch refused.
        """
        if KERNEL_NAME in outputs:
            return super().run(outputs, feeds)  # it takes no means that are looked at here
        tile = torch.from_numpy(np.ascontiguousarray(feeds[INPUT_NAME]))
        means = torch.from_numpy(feeds[MEANS_NAME]) if feeds[GIVEN_NAME].all() else None
        kept = tuple(feeds[KEPT_NAME].tolist()) if SEEN_NAME in outputs else None
        kernel = torch.from_numpy(feeds[KERNEL_NAME]) if KERNEL_NAME in feeds else None
        results = {OUTPUT_NAME: self._pass(tile, kept, means, kernel)}
        if kept is not None:
            results[SEEN_NAME] = torch.cat([self._now.seen[name] for name in self._names], dim=1)
        return [results[name].cpu().numpy() for name in outputs]

    def _pass(
        self, tile: Tensor, kept: Sequence[int] | None, means: Tensor | None = None, kernel: Tensor | None = None
    ) -> Tensor:
        """Upscale a tile in this thread.

        Args:
            tile: (1, H, W, 3) float32.
            kept: top, left, bottom and right of the part whose means are seen, in input pixels; None: none are.
            means: (K,) to use; None: those of the tile.
            kernel: Of a blind network; see ``TileNetwork``.
        """
        now, device = self._now, self._network.device
        now.sides, now.kept, now.seen = tile.shape[1:3], kept, {}
        now.means = None if means is None else means.to(device)
        return self._network(tile.to(device), kernel)

    def _mean(self, name: str, features: Tensor) -> Tensor:
        """Take the mean of (N, C, H, W), whose sides are multiples of the tile's, or return that which is given."""
        now = self._now
        if now.kept is not None:
            rows, columns = (features.shape[2 + axis] // side for axis, side in enumerate(now.sides))
            top, left, bottom, right = now.kept
            part = features[:, :, top * rows : bottom * rows, left * columns : right * columns]
            now.seen[name] = part.mean((2, 3)).float()
        if now.means is None:
            return F.adaptive_avg_pool2d(features, 1)
        means: Tensor = now.means[self._places[name]]
        return means.to(features.dtype).view(1, -1, 1, 1)
