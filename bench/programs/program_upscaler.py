"""Another program as an engine: through the same tiler, from 8-bit image to 8-bit image, as ours."""

from collections.abc import Callable
from typing import Protocol

from drc_deploy.bench.measure.timing import Round, TimingBudget, time_runs
from drc_deploy.engine_info import EngineInfo
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.tiling.tiles import TilePlan
from drc_deploy.runtime.upscaler import Upscaler

TIMED = "a run is"
"""The setting that says what a timed run is, where it is not one image from memory to memory."""

Upscale = Callable[[UInt8Image], UInt8Image]


class PeerBackend(Backend, Protocol):
    """A network in another program."""

    @property
    def settings(self) -> dict[str, str]:
        """Version, threads, and what else was set, in words."""

    def time(self, upscale: Upscale, image: UInt8Image, budget: TimingBudget) -> Round:
        """Time one round of ``upscale`` over this backend; a program that overlaps or times itself does it its way."""
        return time_runs(lambda: upscale(image), budget)


class PeerUpscaler:
    """A ``PeerBackend`` as a ``drc_deploy.bench.measure.engine.PeerEngine``."""

    def __init__(self, backend: PeerBackend) -> None:
        """Wrap ``backend``, which is closed together with this object."""
        self._backend, self._upscaler = backend, Upscaler(backend)

    @property
    def info(self) -> EngineInfo:
        """What the network is."""
        return self._backend.info

    @property
    def device(self) -> str:
        """What computes."""
        return self._backend.device

    @property
    def backend(self) -> Backend:
        """The network alone."""
        return self._backend

    def plan(self, height: int, width: int) -> TilePlan:
        """Return the tiles of an image."""
        return self._upscaler.plan(height, width)

    @property
    def settings(self) -> dict[str, str]:
        """How the program was set."""
        return self._backend.settings

    def __call__(self, image: UInt8Image) -> UInt8Image:
        """Upscale (H, W, 3) uint8 RGB."""
        result: UInt8Image = self._upscaler(image)
        return result

    def time(self, image: UInt8Image, budget: TimingBudget) -> Round:
        """Time one round."""
        return self._backend.time(self, image, budget)

    def close(self) -> None:
        """Free the network."""
        self._upscaler.close()
