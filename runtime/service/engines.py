"""The networks of a service: each is loaded once and shared by all requests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from drc_deploy.engine_info import EngineInfo
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.companions import float32_opener
from drc_deploy.runtime.service.shared_backend import SharedBackend, TileQueue
from drc_deploy.runtime.tiling.memory_plan import Images
from drc_deploy.runtime.tiling.tiles import plan_tiles
from drc_deploy.runtime.upscaler import Upscaler

_TYPICAL = Images(2048, 2048)
"""What tiles and memory are planned for: tiles of all requests have one size."""


class ServedEngine:
    """An engine for many requests at a time.

    Attributes:
        name: What requests call it by.
        path: The file.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Load ``path``; see ``Upscaler.open`` for what can go wrong."""
        self.name, self.path = path.stem, path.absolute()
        self._owner = Upscaler.open(self.path, threads=threads)
        self._closing = ExitStack()
        self._closing.callback(self._owner.close)
        self._alone = threading.Lock()
        self._opened: dict[str, SharedBackend] = {}
        try:
            self._share(threads)
        except BaseException:
            self.close()
            raise

    def _share(self, threads: int | None) -> None:
        networks, main = self._owner.networks, self._owner.backend
        self._is_shared = not networks.takes_kernels
        """A blind network looks at a whole image first: one image at a time has it."""
        if self._is_shared:
            fitted = self._owner.fit(_TYPICAL)
            networks.prepare(main, fitted)
            usual = plan_tiles(_TYPICAL.height, _TYPICAL.width, main.info)
            self._tile = None if fitted.plan == usual else max(fitted.plan.tile)
            self._workers = fitted.workers
            self._open_float32 = float32_opener(self.path, main, threads)
            self._main = self._shared(main)

    @property
    def info(self) -> EngineInfo:
        """Description of the network."""
        return self._owner.info

    @property
    def device(self) -> str:
        """The device that computes."""
        return self._owner.device

    @property
    def threads(self) -> int:
        """Requests that are worked on at a time."""
        if not self._is_shared:
            return 1
        return 4 * self._owner.backend.workers * self._owner.backend.preferred_batch

    @contextmanager
    def upscaler(self) -> Iterator[Upscaler]:
        """Lend an upscaler for one image; of a blind network there is only one, which is waited for."""
        if not self._is_shared:
            with self._alone:
                yield self._owner
            return
        rescue = self._open_float32
        yield Upscaler(
            self._main,
            tile=self._tile,
            open_float=partial(self._once, "16 bits", lambda: self._owner.networks.for_dtype(np.dtype(np.uint16))),
            open_rescue=rescue and partial(self._once, "float32", rescue),
        )

    def _once(self, name: str, open_backend: Callable[[], Backend]) -> Backend:
        """Return what stands in for the network, which the first request that needs it opens."""
        with self._alone:
            if name not in self._opened:
                backend = open_backend()
                backend.use_workers(self._workers)
                if backend is not self._owner.networks.float32:
                    self._closing.callback(backend.close)
                self._opened[name] = self._shared(backend)
            return self._opened[name]

    def _shared(self, backend: Backend) -> SharedBackend:
        queue = TileQueue(backend)
        self._closing.callback(queue.close)
        return SharedBackend(backend, queue)

    def close(self) -> None:
        """Compute what is queued, and free the networks."""
        self._closing.close()
