"""Calls of an ONNX Runtime session whose tiles and results have their own memory on the device, kept between calls.

``session.run`` allocates both on the device in every call and copies before and after computing. Here the copies of one
call run during the computation of another. Two computations never overlap: each would need its own scratch memory.
The arrays on the host are not pinned: in Python, only new versions give such memory, and not for every build.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from drc_deploy.engine_info import INPUT_NAME
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds
from drc_deploy.runtime.backends.ort.providers import import_onnxruntime
from drc_deploy.runtime.backends.worker_pool import one_worker


class BoundRuns:
    """Runs one session from any number of threads."""

    def __init__(self, session: Any, device: str) -> None:
        """Bind to ``device``, as ONNX Runtime calls it: ``cuda`` or ``cpu``."""
        self._session, self._device = session, device
        # One thread computes for all, first come first served: a lock would let late calls overtake early ones.
        self._computing = one_worker()
        self._idle: list[_Binding] = []

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``outputs``, as ``session.run`` does; the arrays are the caller's own."""
        try:
            binding = self._idle.pop()  # not asked for first: another thread may take the last one in between
        except IndexError:
            binding = _Binding(self._session, self._device)
        results = binding.run(outputs, feeds, self._computing)
        self._idle.append(binding)  # not after an error, which may have left it half bound
        return results

    def close(self) -> None:
        """Free the memory on the device; no call may be under way."""
        self._computing.shutdown()
        self._idle.clear()


class _Binding:
    """Device memory for the tiles and results of one call at a time."""

    def __init__(self, session: Any, device: str) -> None:
        self._session, self._device = session, device
        self._fits: tuple[Any, ...] = ()

    def run(self, outputs: Sequence[str], feeds: Feeds, computing: ThreadPoolExecutor) -> list[Pixels]:
        tiles = np.ascontiguousarray(feeds[INPUT_NAME])
        wanted = (*outputs, tiles.shape, tiles.dtype)
        if self._fits != wanted:
            self._bind(outputs, tiles)
            self._fits = wanted
        self._tiles.update_inplace(tiles)
        for name in feeds.keys() - {INPUT_NAME}:
            self._io.bind_cpu_input(name, feeds[name])  # a few bytes, which some nodes want on the host
        computing.submit(self._session.run_with_iobinding, self._io).result()
        if not self._results:
            self._keep(outputs)
        return [_own(value.numpy()) for value in self._results]

    def _bind(self, outputs: Sequence[str], tiles: Pixels) -> None:
        """Take memory for tiles of this shape; the first run takes that of the results."""
        value = import_onnxruntime().OrtValue
        self._io = self._session.io_binding()
        self._results: list[Any] = []
        self._tiles = value.ortvalue_from_shape_and_type(list(tiles.shape), tiles.dtype, self._device, 0)
        self._io.bind_ortvalue_input(INPUT_NAME, self._tiles)
        for name in outputs:
            self._io.bind_output(name, self._device, 0)

    def _keep(self, outputs: Sequence[str]) -> None:
        """Let later runs write where the first one did."""
        self._results = self._io.get_outputs()
        for name, value in zip(outputs, self._results, strict=True):
            self._io.bind_ortvalue_output(name, value)


def _own(array: Pixels) -> Pixels:
    """Copy an array that lies in memory of the binding, as it does where the device is the CPU."""
    return array if array.flags.owndata else array.copy()
