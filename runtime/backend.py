"""The seam between the upscaler and what computes: one protocol, and the choice by file suffix."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from drc_deploy.engine_info import CHECKPOINT_PRECISIONS, EXACT_PLAN_SUFFIX, EXACT_SUFFIX, EngineInfo, Precision
from drc_deploy.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from drc_deploy.runtime.cuda_lanes import DeviceTimes
    from drc_deploy.runtime.gpu_memory import GpuMemory

Pixels = NDArray[Any]
"""uint8, uint16 or float32 samples; what shape and which of the three is said where it is used."""

BackendType = TypeVar("BackendType", bound="Backend")


@dataclass(frozen=True, slots=True)
class LayerRun:
    """One layer in one run of a network."""

    name: str
    operation: str
    ms: float


class Backend(Protocol):
    """A loaded network that turns a batch of input tiles into a batch of output tiles."""

    @property
    def info(self) -> EngineInfo:
        """What the network is and which inputs it takes."""

    @property
    def device(self) -> str:
        """What really computes, as the library tells: ``ONNX Runtime CPUExecutionProvider``."""

    @property
    def preferred_batch(self) -> int:
        """How many tiles a call should have for speed; at most ``info.max_batch``."""
        return self.info.max_batch

    @property
    def workers(self) -> int:
        """How many batches a stream computes at a time, each in memory of its own."""
        return 1

    def use_workers(self, count: int) -> None:
        """Compute at most ``count`` batches of a stream at a time, from the next stream on."""
        return None

    def give_back(self) -> None:
        """Give back memory that is kept from one call for the next like it; to be called between streams."""
        return None

    @property
    def gpu_memory(self) -> "GpuMemory | None":
        """What the network takes of a GPU; None where that is not known."""
        return None

    @property
    def device_times(self) -> "DeviceTimes | None":
        """How long the parts of the latest call took by the device's own clock; None where that is not known."""
        return None

    def time_layers(self, batch: Pixels, runs: int) -> list[list[LayerRun]] | None:
        """Run a batch, as for ``run``, so many times beside what is kept for speed, and time each layer.

        Returns:
            For each run the layers in their order; None where the backend does not tell.

        Raises:
            ArtefactError: the library refused to compute.
        """
        return None

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch.

        Args:
            batch: (N, H, W, 3) RGB in [0, 255], of the type ``info.io_dtype``; N at most
                ``info.max_batch``, and (H, W) equal to ``info.tile`` unless that is None.

        Returns:
            (N, scale*H, scale*W, 3) of the same type. float32 results are neither rounded nor clipped.

        Raises:
            ArtefactError: the library refused to compute.
        """

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches; a backend may take some ahead and work on several at a time.

        Args:
            batches: Each as for ``run``.

        Yields:
            The result of each batch, as ``run`` gives it, in order.

        Raises:
            ArtefactError: the library refused to compute.
        """
        return map(self.run, batches)

    def close(self) -> None:
        """Give back the memory; the backend cannot run any more."""

    def __enter__(self: BackendType) -> BackendType:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_backend(path: Path, *, threads: int | None = None, precision: Precision | None = None) -> Backend:
    """Load a ``.plan``, ``.onnx`` or ``.safetensors`` file.

    Args:
        path: the file.
        threads: CPU threads; None leaves the choice to the library.
        precision: of the body of a checkpoint's network; None: fp32. An exported file has its own.

    Raises:
        UsageError: ``precision`` is given for an exported file, or is none that torch computes in; or ``threads`` is no
            number of threads.
        ArtefactError: the file is missing, damaged, or of another program, version or GPU.
        MissingDependencyError: this machine lacks the library or the device.
    """
    threads = whole_number("threads", threads, least=1)
    if not path.is_file():
        raise ArtefactError(f"{path} does not exist.", "Check the path, or make it with `drc-deploy export`.")
    path = path.absolute()  # parts of it may be loaded later, after an `os.chdir`
    if path.name.endswith((EXACT_SUFFIX, EXACT_PLAN_SUFFIX)):
        served = path.with_name(path.name.removesuffix(f".exact{path.suffix}") + path.suffix)
        raise ArtefactError(f"{path} only serves {served} with --exact.", f"Give {served} and --exact.")
    if path.suffix == ".safetensors":
        return _open_checkpoint(path, threads, precision or "fp32")
    refuse_precision(path, precision)
    if path.suffix == ".onnx":
        from drc_deploy.runtime.onnxruntime_backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(path, threads=threads)
    if path.suffix == ".plan":
        from drc_deploy.runtime.tensorrt_backend import TensorRTBackend

        return TensorRTBackend(path)
    raise ArtefactError(f"{path} is not an engine.", "Give a .plan, .onnx or .safetensors file.")


def whole_number(name: str, value: int | None, *, least: int) -> int | None:
    """Give the value of an option, of which NumPy's integers become Python's, which do not overflow.

    Raises:
        UsageError: it is neither None nor a whole number of at least ``least``.
    """
    if value is None:
        return None
    if not (isinstance(value, Integral) and value >= least):
        raise UsageError(f"{name} is {value!r}: it takes a whole number of at least {least}.", "Give another one.")
    return int(value)


def _open_checkpoint(path: Path, threads: int | None, precision: Precision) -> Backend:
    if precision not in CHECKPOINT_PRECISIONS:
        raise UsageError(
            f"a checkpoint runs in {', '.join(CHECKPOINT_PRECISIONS)}, not in {precision}.",
            "INT8 is for exported files: drc-deploy export CHECKPOINT --precision int8.",
        )
    from drc_deploy.runtime.torch_backend import TorchBackend

    return TorchBackend(path, threads=threads, precision=precision)


def refuse_precision(path: Path, precision: Precision | None) -> None:
    """Refuse to choose the precision of an exported file.

    Raises:
        UsageError: one is given.
    """
    if precision is not None:
        raise UsageError(
            f"{path} has the precision that it was exported with.", "Leave out --precision, or give the checkpoint."
        )


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
