"""GPU memory of a plan, and how many batches at a time fit: known before anything is allocated."""

from collections.abc import Callable
from dataclasses import dataclass

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import GpuMemory
from drc_deploy.runtime.memory.host import mib

MAX_LANES = 3
"""Batches on the GPU at a time: one that is uploaded, one that is computed, one that is downloaded."""
RESERVE_BYTES = 64 << 20
"""Left free for the driver and the library: kernels, streams, the states of contexts."""


@dataclass(frozen=True, slots=True)
class PlanNeed:
    """Memory that a loaded plan needs."""

    engine: int
    """Bytes that it holds already."""
    batches: tuple[int, ...]
    """Sizes of batches that it can be run at, the largest first."""
    scratch: Callable[[int], int]
    """Returns the bytes that a computation of a batch of this size needs."""
    io: Callable[[int], int]
    """Returns the bytes of one lane's inputs and outputs for a batch of this size."""


def fit_lanes(need: PlanNeed, free: int) -> GpuMemory:
    """Choose the most lanes that fit; smaller batches only where one lane does not.

    Args:
        need: of the plan.
        free: bytes that the GPU has left, with the engine loaded.

    Raises:
        ArtefactError: one lane with the smallest batch does not fit.
    """
    for batch in need.batches:
        scratch = need.scratch(batch)
        for lanes in range(MAX_LANES, 0, -1):
            memory = GpuMemory(lanes, batch, need.engine, scratch, lanes * need.io(batch))
            if scratch + memory.io + RESERVE_BYTES <= free:
                return memory
    raise ArtefactError(
        f"out of memory: the GPU has {free >> 20} MiB left, and at least "
        f"{mib(scratch + memory.io + RESERVE_BYTES)} MiB are needed"
    )


def halves(largest: int) -> tuple[int, ...]:
    """Return ``largest`` and its halves down to 1."""
    return (largest, *halves(largest // 2)) if largest > 1 else (1,)
