"""An engine as a run measures it, and one that is open."""

from collections.abc import Callable
from typing import Protocol

from drc_deploy.bench.measure.timing import Round, TimingBudget
from drc_deploy.engine_info import EngineInfo
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.tiling.tiles import TilePlan


class Engine(Protocol):
    """What a process measures; ``drc_deploy.runtime.upscaler.Upscaler`` is one."""

    @property
    def info(self) -> EngineInfo:
        """What the network is."""

    @property
    def device(self) -> str:
        """What computes."""

    @property
    def backend(self) -> Backend:
        """The network alone."""

    def plan(self, height: int, width: int) -> TilePlan:
        """Return the tiles of an image."""

    def __call__(self, image: UInt8Image) -> UInt8Image:
        """Upscale (H, W, 3) uint8 RGB."""

    def close(self) -> None:
        """Free the network."""


class PeerEngine(Engine, Protocol):
    """Another program as an engine, which says how it is set and may count its time in its own way."""

    @property
    def settings(self) -> dict[str, str]:
        """Version, threads, and what else was set, in words."""

    def time(self, image: UInt8Image, budget: TimingBudget) -> Round:
        """Time one round."""


OpenEngine = Callable[[], Engine]
"""Loads an engine inside the child, so it must be picklable."""
