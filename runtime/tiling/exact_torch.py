"""Exact tiles of a checkpoint: the means that its network takes over the whole tile can be read and replaced.

It offers the same names as an exact graph (``export/graph/exact_graph.py``), for ``runtime/tiling/exact.py``.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from drc_deploy.engine_info import GIVEN_NAME, INPUT_NAME, KEPT_NAME, MEANS_NAME, OUTPUT_NAME, SEEN_NAME
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds
from drc_deploy.runtime.backends.pytorch.cpu import CpuTiles
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork
from drc_deploy.runtime.tiling.exact import ExactBackend

_TRIAL_PX = 8
"""Side of the input that shows how many channels every mean has."""


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
    return ExactBackend(runner, network.info, runner.mean_count)


class ExactRunner(CpuTiles):
    """Runs a network on tiles with given means, and returns the means of a part of each tile. On a GPU too.

    Attributes:
        mean_count: Number of all channels whose means the network takes.
    """

    def __init__(self, network: TileNetwork, workers: int) -> None:
        super().__init__(network, workers)
        self._means = _Means(network)
        self.mean_count = self._means.count

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``OUTPUT_NAME`` or ``SEEN_NAME`` of a batch of one, or both.

        Args:
            outputs: Names of the results.
            feeds: As an exact graph takes them.

        Raises:
            ArtefactError: torch refused.
        """
        tile = torch.from_numpy(np.ascontiguousarray(feeds[INPUT_NAME])).to(self._network.device)
        means = torch.from_numpy(feeds[MEANS_NAME]).to(self._network.device) if feeds[GIVEN_NAME].all() else None
        kept = tuple(feeds[KEPT_NAME].tolist()) if SEEN_NAME in outputs else None
        results = {}
        with self._means.of(_Pass((tile.shape[1], tile.shape[2]), kept, means)) as seen:
            results[OUTPUT_NAME] = self._network(tile)
        if kept is not None:
            results[SEEN_NAME] = torch.cat([seen[name] for name in self._network.network.global_means], dim=1)
        return [results[name].cpu().numpy() for name in outputs]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over a tile."""

    sides: tuple[int, int]
    """Height and width of the tile, in input pixels."""
    kept: Sequence[int] | None
    """Top, left, bottom and right of the part whose means are returned, in input pixels; None: no means are."""
    means: Tensor | None
    """(K,) to use; None: those of the tile."""

    def part(self, features: Tensor) -> Tensor:
        """Cut the kept part out of (N, C, H, W), whose sides are multiples of the tile's."""
        assert self.kept is not None
        rows, columns = (features.shape[2 + axis] // side for axis, side in enumerate(self.sides))
        top, left, bottom, right = self.kept
        return features[:, :, top * rows : bottom * rows, left * columns : right * columns]


class _Means:
    """Stands in the place of all modules that take a mean over the whole tile.

    Attributes:
        count: Number of channels of all means.
    """

    def __init__(self, network: TileNetwork) -> None:
        names = network.network.global_means
        self._now = threading.local()  # several threads run the network at a time
        for name in names:
            network.network.get_submodule(name).forward = partial(self._mean, name)
        self._places: dict[str, slice] = {}
        trial = torch.zeros(1, _TRIAL_PX, _TRIAL_PX, 3, device=network.device)
        with self.of(_Pass((_TRIAL_PX, _TRIAL_PX), (0, 0, 1, 1), None)) as seen:
            network(trial)
        self.count = 0
        for name in names:
            self._places[name] = slice(self.count, self.count + seen[name].shape[1])
            self.count = self._places[name].stop

    @contextmanager
    def of(self, what: _Pass) -> Iterator[dict[str, Tensor]]:
        """Run this thread's next pass as ``what``; yield the means that it sees, (N, C) float32, by module."""
        self._now.what, self._now.seen = what, {}
        yield self._now.seen

    def _mean(self, name: str, features: Tensor) -> Tensor:
        what: _Pass = self._now.what
        if what.kept is not None:
            self._now.seen[name] = what.part(features).mean((2, 3)).float()
        if what.means is None:
            return F.adaptive_avg_pool2d(features, 1)
        return what.means[self._places[name]].to(features.dtype).view(1, -1, 1, 1)
