"""A TensorRT plan as a backend: batches of tiles in, batches of tiles out."""

import dataclasses
import logging
from pathlib import Path

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME, EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backends.contract import DeviceTimes, GpuMemory, LayerRun, Pixels
from drc_deploy.runtime.backends.graph_backend import GraphBackend
from drc_deploy.runtime.backends.trt.runner import PlanRunner

_log = logging.getLogger(__name__)

_FOREIGN = "Make the plan with `drc-deploy export CHECKPOINT --trt fp16`."


class TensorRTBackend(GraphBackend):
    """A plan of TensorRT or TensorRT-RTX on the first GPU.

    An engine of free size is run at the one shape that it was tuned for: its ``info.tile`` is never None.
    """

    def __init__(self, path: Path) -> None:
        """Load ``path``; see ``PlanRunner``.

        Raises:
            ArtefactError: also where the plan is not one of this program.
        """
        self._plan = PlanRunner(path)
        try:
            super().__init__(self._plan, _read_info(self._plan, path))
        except ArtefactError:
            self._plan.close()
            raise

    @property
    def device_times(self) -> DeviceTimes | None:
        """Times of the latest call, by the GPU's own clock; None before the first."""
        return self._plan.times

    @property
    def gpu_memory(self) -> GpuMemory:
        """GPU memory of the plan."""
        return self._plan.memory

    def time_layers(self, batch: Pixels, runs: int) -> list[list[LayerRun]]:
        """Time each layer, without CUDA graphs; see ``Backend.time_layers``."""
        return self._plan.time_layers(self._feeds(batch), runs)


def _read_info(runner: PlanRunner, path: Path) -> EngineInfo:
    """Describe a plan, and hold its tensors against the contract of ``engine_info.py``.

    Raises:
        ArtefactError: it is not a network of this program, or not the one of its sidecar.
    """
    if list(runner.inputs) != [INPUT_NAME] or list(runner.outputs) != [OUTPUT_NAME]:
        raise ArtefactError(
            f"{path} takes {', '.join(runner.inputs)} and gives {', '.join(runner.outputs)}, not {INPUT_NAME} and "
            f"{OUTPUT_NAME}.",
            _FOREIGN,
        )
    if runner.sidecar is None:
        _log.warning("%s has no sidecar: its shapes are read from the engine.", path)
    info = runner.sidecar.engine if runner.sidecar else _info_without_sidecar(runner, path)
    _, height, width, _ = runner.inputs[INPUT_NAME].shape
    info = at_shape(info, (height, width), path)
    info = dataclasses.replace(info, max_batch=runner.memory.batch)
    check_tensors(runner, info, path)
    return info


def at_shape(info: EngineInfo, tile: tuple[int, int], path: Path) -> EngineInfo:
    """Return the description of the plan ``path`` run at one size.

    Raises:
        ArtefactError: its network does not take that size.
    """
    try:
        return dataclasses.replace(info, tile=tile)
    except ValueError as error:
        raise ArtefactError(f"{path} runs on tiles of {tile[0]}x{tile[1]}, but {error}.", _FOREIGN) from error


def check_tensors(runner: PlanRunner, info: EngineInfo, path: Path) -> None:
    """Refuse a plan whose pixels are not of the type and size that ``info`` says.

    Raises:
        ArtefactError: they are not.
    """
    lr, sr = runner.inputs[INPUT_NAME], runner.outputs[OUTPUT_NAME]
    batch, height, width, _ = lr.shape
    if (lr.dtype, sr.dtype) != (info.io_dtype, info.io_dtype):
        raise ArtefactError(f"{path} takes {lr.dtype} and gives {sr.dtype}, not {info.io_dtype}.", _FOREIGN)
    if sr.shape != (batch, info.scale * height, info.scale * width, 3):
        raise ArtefactError(f"{path} makes {sr.shape} of {lr.shape}, which is not {info.scale} times.", _FOREIGN)


def _info_without_sidecar(runner: PlanRunner, path: Path) -> EngineInfo:
    """Describe a plan by its tensors alone.

    Unknown fields are set so that tiling is careful: as if the network had global operations.
    """
    lr, sr = runner.inputs[INPUT_NAME], runner.outputs[OUTPUT_NAME]
    _, height, width, _ = lr.shape
    if lr.dtype not in ("uint8", "float32"):
        raise ArtefactError(f"{path} takes {lr.dtype}, not uint8 or float32.", _FOREIGN)
    return EngineInfo(
        model=path.stem,
        scale=max(sr.shape[1] // height, 1) if len(sr.shape) == 4 else 1,
        precision="fp32",
        io_dtype="uint8" if lr.dtype == "uint8" else "float32",
        tile=(height, width),
        max_batch=runner.memory.batch,
        receptive_field=min(height, width),
        global_operations=True,
        params=0,
        widths=(),
        checkpoint_sha256="",
    )
