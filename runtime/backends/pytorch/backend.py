"""Runs a checkpoint with torch: for comparing, and where nothing was exported yet."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from drc_deploy.engine_info import EngineInfo, Precision
from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.backends.contract import Backend, Pixels, check_batch
from drc_deploy.runtime.memory.heap import tune_allocator

try:
    tune_allocator()
    import torch  # noqa: F401 - that of the modules below
except ImportError as error:
    raise MissingDependencyError(
        "running a checkpoint needs torch, which is not installed.",
        "Install it: pip install 'drc-deploy[train]', or upscale with an exported .onnx or .plan.",
    ) from error

from drc_deploy.runtime.backends.pytorch.cpu import CpuTiles
from drc_deploy.runtime.backends.pytorch.cuda import CudaTiles
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork


class TorchBackend(Backend):
    """The network of a checkpoint, in any size; on the GPU when torch has one.

    Attributes:
        network: What is run.
    """

    def __init__(self, path: Path, *, threads: int | None = None, precision: Precision = "fp32") -> None:
        """Load ``path``; see ``open_backend``."""
        self.network = TileNetwork(path, precision)
        self._info = self.network.info
        on_cpu = self.network.device.type == "cpu"
        self._tiles = CpuTiles(self.network, threads) if on_cpu else CudaTiles(self.network)

    @property
    def info(self) -> EngineInfo:
        """Description of the network in the checkpoint."""
        return self._info

    @property
    def device(self) -> str:
        """``torch``, ``CPU`` or the name of the GPU, and the precision: ``torch CPU fp32``."""
        return self.network.name

    @property
    def workers(self) -> int:
        """Tiles computed at a time: one per thread on a CPU."""
        return self._tiles.workers

    def use_workers(self, count: int) -> None:
        """See ``Backend.use_workers``."""
        self._tiles.workers = count

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        check_batch(batch, self._info)
        return self._tiles.run(batch)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches; see ``Backend.stream``."""
        return self._tiles.stream(map(self._checked, batches))

    def _checked(self, batch: Pixels) -> Pixels:
        check_batch(batch, self._info)
        return batch

    def close(self) -> None:
        """Nothing to do: torch frees the memory with this object."""
