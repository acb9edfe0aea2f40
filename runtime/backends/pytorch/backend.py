"""Runs a checkpoint with torch: for comparing, and where nothing was exported yet."""

from pathlib import Path

from drc_deploy.engine_info import Precision
from drc_deploy.errors import cannot_import
from drc_deploy.runtime.backends.graph_backend import GraphBackend
from drc_deploy.runtime.backends.pytorch.waiting_threads import let_waiting_threads_sleep
from drc_deploy.runtime.memory.heap import tune_allocator

try:
    tune_allocator()
    let_waiting_threads_sleep()
    import torch  # noqa: F401 - that of the modules below
except ImportError as error:
    install = "pip install 'drc-deploy[train]', or upscale with an exported .onnx or .plan."
    raise cannot_import("running a checkpoint", "torch", install, error) from error

from drc_deploy.runtime.backends.pytorch.cpu import CpuTiles, use_threads
from drc_deploy.runtime.backends.pytorch.cuda import CudaTiles
from drc_deploy.runtime.backends.pytorch.loaded_network import TileNetwork


class TorchBackend(GraphBackend):
    """The network of a checkpoint, in any size; on the GPU when torch has one.

    Attributes:
        network: What is run.
    """

    def __init__(self, path: Path, *, threads: int | None = None, precision: Precision = "fp32") -> None:
        """Load ``path``; see ``open_backend``."""
        self.network = TileNetwork(path, precision)
        on_cpu, blind = self.network.device.type == "cpu", self.network.info.kernel_size is not None
        workers = use_threads(threads) if on_cpu else 1  # a tile has all of the GPU
        runner = CpuTiles(self.network, workers) if on_cpu or blind else CudaTiles(self.network)
        super().__init__(runner, self.network.info)
        self.takes_kernels = self.network.info.kernel_size is not None
