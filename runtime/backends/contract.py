"""The contract between the upscaler and what computes a network."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import ArtefactError

Pixels = NDArray[Any]
"""uint8, uint16 or float32 samples; type and shape are documented where it is used."""

BackendType = TypeVar("BackendType", bound="Backend")


@dataclass(frozen=True, slots=True)
class LayerRun:
    """One layer in one run of a network."""

    name: str
    operation: str
    ms: float


class Backend(Protocol):
    """A loaded network that turns a batch of input tiles into a batch of output tiles."""

    _batch: int | None = None
    sessions: int = 1
    """Graphs that it is made of."""
    takes_kernels: bool = False
    """Whether it is a blind network that ``with_kernel`` and ``estimated_kernels`` are for."""

    @property
    def info(self) -> EngineInfo:
        """Description of the network and of its inputs."""

    @property
    def device(self) -> str:
        """The device that computes, as the library reports it: ``ONNX Runtime CPUExecutionProvider``."""

    @property
    def preferred_batch(self) -> int:
        """How many tiles a call should have for speed; at most ``info.max_batch``."""
        return self._batch or self.info.max_batch

    def use_batch(self, tiles: int) -> None:
        """Take so many tiles as ``preferred_batch``, at most ``info.max_batch``."""
        self._batch = tiles

    @property
    def workers(self) -> int:
        """How many batches a stream computes at a time, each in memory of its own."""
        return 1

    def use_workers(self, count: int) -> None:
        """Compute at most ``count`` batches of a stream at a time, from the next stream on."""
        return None

    def give_back(self) -> None:
        """Free memory that is kept from one call for the next like it; to be called between streams."""
        return None

    @property
    def gpu_memory(self) -> "GpuMemory | None":
        """GPU memory that the network takes; None where that is not known."""
        return None

    @property
    def device_times(self) -> "DeviceTimes | None":
        """How long the parts of the latest call took by the device's own clock; None where that is not known."""
        return None

    def time_layers(self, batch: Pixels, runs: int) -> list[list[LayerRun]] | None:
        """Run a batch, as for ``run``, ``runs`` times and time each layer; this bypasses CUDA graphs.

        Returns:
            For each run the layers in their order; None where the backend cannot time them.

        Raises:
            ArtefactError: the library refused to compute.
        """
        return None

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch.

        Args:
            batch: (N, H, W, 3) RGB in [0, 255], of the type ``info.io_dtype``; N at most
                ``info.max_batch``, and (H, W) equal to ``info.tile``. Where that is None, H and W are multiples of
                ``info.multiple_of`` and at least ``info.minimum``.

        Returns:
            (N, scale*H, scale*W, 3) of the same type. float32 results are neither rounded nor clipped.

        Raises:
            ArtefactError: the library refused to compute, or the result has another size.
        """

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches; a backend may take some ahead and work on several at a time.

        Args:
            batches: Each as for ``run``.

        Yields:
            The result of each batch, as ``run`` returns it, in order.

        Raises:
            ArtefactError: the library refused to compute.
        """
        return map(self.run, batches)

    def with_kernel(self: BackendType, kernel: Pixels) -> BackendType:
        """Return the same blind network with (k, k) float32 for the blur kernel of every image, in input pixels.

        It shares the memory of this one, which must stay open as long.
        """
        raise TypeError(f"{self.info.model} is not blind")

    def estimated_kernels(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Return the kernels that a blind network finds in batches, each (N, k, k) float32; see ``with_kernel``.

        Raises:
            ArtefactError: the library refused to compute.
        """
        raise TypeError(f"{self.info.model} is not blind")

    def close(self) -> None:
        """Free the memory; the backend cannot run any more."""

    def __enter__(self: BackendType) -> BackendType:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_batch(batch: Pixels, info: EngineInfo) -> None:
    """Refuse a batch that the network cannot take, before native code meets it.

    Raises:
        ValueError: another type, rank, size or number of tiles than ``info`` says.
    """
    if batch.dtype != np.dtype(info.io_dtype):
        raise ValueError(f"the network takes {info.io_dtype}, not {batch.dtype}")
    if batch.ndim != 4 or batch.shape[3] != 3 or batch.size == 0:
        raise ValueError(f"expected a batch of shape (N, H, W, 3), not {batch.shape}")
    if batch.shape[0] > info.max_batch:
        raise ValueError(f"the network takes at most {info.max_batch} tiles at once, not {batch.shape[0]}")
    if info.tile is not None and batch.shape[1:3] != info.tile:
        raise ValueError(f"the network takes tiles of {info.tile}, not {batch.shape[1:3]}")
    if any(side != info.taken_side(side) for side in batch.shape[1:3]):
        raise ValueError(f"the network takes sides that are {info.sides}, not {batch.shape[1:3]}")


def check_result(batch: Pixels, result: Pixels, scale: int) -> None:
    """Refuse a result that is not ``scale`` times its batch: the metadata of a file can be wrong.

    Raises:
        ArtefactError: it has another shape than (N, scale*H, scale*W, 3).
    """
    expected = (len(batch), batch.shape[1] * scale, batch.shape[2] * scale, 3)
    if result.shape != expected:
        raise ArtefactError(
            f"the network gave {result.shape} where {expected} was expected.",
            "Make it again with `drc-deploy export`.",
        )


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """Durations of the parts of one call, by events on the stream, and of the host, by its own clock."""

    upload_ms: float
    compute_ms: float
    download_ms: float
    enqueue_ms: float
    """The host's time to queue the computation."""


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """GPU memory of a plan. All sizes are bytes."""

    lanes: int
    """Batches on the GPU at a time."""
    batch: int
    """Largest number of tiles in one call."""
    engine: int
    """The weights, or the size of the plan's file where the library does not report them."""
    scratch: int
    """Memory of a computation while it runs; one runs at a time."""
    io: int
    """Inputs and outputs of all lanes."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.engine + self.scratch + self.io
