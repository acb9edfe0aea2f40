"""Runs a TensorRT plan: everything is allocated once, and one batch is copied while another is computed."""

import dataclasses
import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from drc_deploy.engine_info import NO_OPTIONS, EngineInfo, PlanSidecar, read_sidecar
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backend import Backend, Pixels, check_batch
from drc_deploy.runtime.cuda_memory import CudaDevice, DeviceTimes, Lane
from drc_deploy.runtime.tensorrt_plan import LoadedPlan, info_without_sidecar, load_library

LANES = 3
"""Batches on the GPU at a time: one that is uploaded, one that is computed, one that is downloaded."""

_log = logging.getLogger(__name__)

_AMPERE = 8.0
"""Compute capability that a hardware-compatible plan needs."""
_UNSUPPORTED_GPU = "does not support this compute capability"
"""What TensorRT-RTX 1.7 says on data-centre GPUs, whoever built the plan: exporting with it again would not help."""


class TensorRTBackend(Backend):
    """A plan of TensorRT or TensorRT-RTX on the first GPU.

    An engine of free size is run at the one shape that it was tuned for: its ``info.tile`` is never None.
    """

    def __init__(self, path: Path) -> None:
        """Load ``path``.

        Raises:
            ArtefactError: the plan is damaged, was changed after export, or is for another GPU or version.
            MissingDependencyError: no library, no driver or no GPU; the hint names the ONNX beside the plan.
        """
        self._path = path
        sidecar = read_sidecar(path)
        plan = _read_plan(path, sidecar)
        elsewhere = _way_without_gpu(path, sidecar)
        try:
            # The driver first: a TensorRT runtime without one ends the whole process.
            self._gpu = CudaDevice()
            library = load_library(sidecar.builder if sidecar else None)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{path} cannot run on this machine: {error.message}.", elsewhere) from error
        self._times: DeviceTimes | None = None
        with self._gpu.current():
            try:
                # The sidecar's word counts, because the plan is the one that it describes: see ``_read_plan``.
                self._load(LoadedPlan(library, plan, sidecar.options if sidecar else NO_OPTIONS), sidecar)
            except (ArtefactError, self._gpu.driver.Error) as error:
                raise ArtefactError(
                    f"{path} cannot run here: {error}.{_difference(sidecar, self._gpu, library.__version__)}",
                    f"{_way_to_another_plan(str(error), sidecar)} {elsewhere}",
                ) from error

    def _load(self, plan: LoadedPlan, sidecar: PlanSidecar | None) -> None:
        """Allocate everything that calls need."""
        shapes = plan.shapes
        output_shape = plan.set_batch(shapes.batch)
        if sidecar is None:
            _log.warning("%s has no sidecar: its shapes are read from the engine.", self._path)
            self._info = info_without_sidecar(self._path.stem, shapes, output_shape)
        else:
            self._info = dataclasses.replace(sidecar.engine, tile=shapes.tile, max_batch=shapes.batch)
        scale, (height, width) = self._info.scale, shapes.tile
        if shapes.io_dtype != self._info.io_dtype or output_shape != (
            shapes.batch,
            scale * height,
            scale * width,
            3,
        ):
            raise ArtefactError(f"its {shapes.io_dtype} output of {output_shape} is not {scale} times its input")
        self._plan = plan
        input_shape = (shapes.batch, height, width, 3)
        self._lanes = [Lane(self._gpu.driver, input_shape, output_shape, shapes.io_dtype) for _ in range(LANES)]
        self._latest: Lane | None = None

    @property
    def info(self) -> EngineInfo:
        """What the sidecar, or else the engine, says."""
        return self._info

    @property
    def device(self) -> str:
        """``TensorRT`` and the name of the GPU."""
        return f"TensorRT {self._gpu.name}"

    @property
    def device_times(self) -> DeviceTimes | None:
        """Times of the latest call, by the GPU's own clock; None before the first."""
        return self._times

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        (result,) = self.stream([batch])
        return result

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches, of which one is computed while its neighbours are copied; see ``Backend.stream``."""
        free, busy = deque(self._lanes), deque[tuple[Lane, int]]()
        try:
            for batch in batches:
                check_batch(batch, self._info)
                lane = free.popleft()
                self._start(lane, batch)
                busy.append((lane, len(batch)))
                if not free:
                    yield self._result(*busy[0])
                    free.append(busy.popleft()[0])
            while busy:
                yield self._result(*busy[0])
                busy.popleft()
        finally:
            # What is on its way must have arrived before the buffers are used for something else.
            for lane, _ in busy:
                self._wait(lane)

    def _start(self, lane: Lane, batch: Pixels) -> None:
        """Queue the way of a batch through the GPU."""
        count = len(batch)
        lane.input.host[:count] = batch
        computed = self._plan.shapes.batch if self._plan.shapes.fixed_batch else count
        with self._running():
            self._plan.set_batch(computed)
            addresses = lane.input.address, lane.output.address
            lane.start(computed, lambda stream: self._plan.enqueue(*addresses, stream), self._latest)
        self._latest = lane

    def _wait(self, lane: Lane) -> None:
        with self._running():
            self._times = lane.wait()

    def _result(self, lane: Lane, count: int) -> Pixels:
        """Wait for a batch and give its result."""
        self._wait(lane)
        result: Pixels = lane.output.host[:count].copy()
        return result

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Use the GPU in the block, and say which plan failed on what when it fails."""
        try:
            with self._gpu.current():
                yield
        except (ArtefactError, self._gpu.driver.Error) as error:
            raise ArtefactError(f"{self._path} failed on {self.device}: {error}.", "Try again.") from error

    def close(self) -> None:
        """Free buffers, engine and context."""
        with self._gpu.current():
            for lane in self._lanes:
                lane.free()
            self._plan.close()
            self._lanes, self._latest = [], None  # pinned memory, streams and events belong to the context
        self._gpu.close()


def _read_plan(path: Path, sidecar: PlanSidecar | None) -> bytes:
    """Read the plan and compare it with what its sidecar was written for."""
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Check the file.") from error
    if not plan:
        raise ArtefactError(f"{path} is empty.", "Export the plan again.")
    if sidecar is not None and hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
        raise ArtefactError(
            f"{path} is not the plan that its sidecar describes.",
            "Export the plan again, or copy both files together.",
        )
    return plan


def _way_without_gpu(path: Path, sidecar: PlanSidecar | None) -> str:
    """Say how to upscale on a machine that cannot run the plan."""
    onnx = path.with_name(sidecar.onnx_file) if sidecar else path.with_suffix(".onnx")
    if onnx.is_file():
        return f"Run the ONNX beside it, which needs no GPU: `drc-deploy upscale in.png --engine {onnx}`."
    return f"Run the ONNX that it was built from ({onnx.name}), which needs no GPU."


def _way_to_another_plan(reason: str, sidecar: PlanSidecar | None) -> str:
    """Say how to get a plan that runs here, where the library gave ``reason`` for refusing this one."""
    if _UNSUPPORTED_GPU in reason:
        return "Install TensorRT (`pip install 'drc-deploy[trt]'`) and run `drc-deploy export --trt fp16` here."
    if sidecar is None:
        return (
            "Copy its sidecar (NAME.plan.json) beside it, without which a version-compatible plan may not run the code "
            "that it brings, or export the plan on this machine: `drc-deploy export --trt fp16`."
        )
    return "Export the plan on this machine: `drc-deploy export --trt fp16`."


def _difference(sidecar: PlanSidecar | None, gpu: CudaDevice, version: str) -> str:
    """Say in what this machine differs from the one that built the plan; empty when nothing is known."""
    if sidecar is None:
        return ""
    differences = []
    if sidecar.builder_version != version:
        later = " and later" if sidecar.options.version_compatible else ""
        differences.append(f"version {sidecar.builder_version}{later}, here is {version}")
    if sidecar.options.hardware_compatible:
        if float(gpu.compute_capability) < _AMPERE:
            differences.append(f"GPUs from compute capability {_AMPERE} on, here is {gpu.compute_capability}")
    elif sidecar.compute_capability not in (None, gpu.compute_capability):
        differences.append(
            f"a GPU of compute capability {sidecar.compute_capability}, here is {gpu.compute_capability}"
        )
    return f" It was built for {' and '.join(differences)}." if differences else ""
