"""Runs a TensorRT plan of any inputs and outputs: everything is allocated once, and copies run during computations."""

import hashlib
import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drc_deploy.engine_info import EXACT_SUFFIX, INPUT_NAME, NO_OPTIONS, PlanSidecar, read_sidecar
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.input_files import open_file
from drc_deploy.runtime.backends.contract import DeviceTimes, GpuMemory, LayerRun, Pixels
from drc_deploy.runtime.backends.graph_backend import Feeds, GraphRunner
from drc_deploy.runtime.backends.trt.gpu_memory import CudaDevice
from drc_deploy.runtime.backends.trt.graphs import GraphRecorder, RepeatedCall, load_graph_api
from drc_deploy.runtime.backends.trt.lanes import MAX_LANES, Lane, fit_lanes, halves
from drc_deploy.runtime.backends.trt.plan import LoadedPlan, load_library
from drc_deploy.runtime.memory.host import mib

_log = logging.getLogger(__name__)

_UNSUPPORTED_GPU = "does not support this compute capability"
"""TensorRT-RTX 1.7 says so on data-centre GPUs, whoever built the plan: exporting with it again would not help."""
_AMPERE = 8.0
"""Compute capability that a hardware-compatible plan needs."""
_MEMORY_WORDS = ("out of memory", "outofmemory", "memory may be short")
"""Words of the driver, TensorRT and this program where memory is short, in lower case."""
_OLD_DRIVER = "driver may be too old"


class PlanRunner(GraphRunner):
    """A plan of TensorRT or TensorRT-RTX on the first GPU.

    Attributes:
        sidecar: Where the plan comes from; None when it has no sidecar.
        inputs: The plan's inputs by name.
        outputs: The plan's outputs by name.
        memory: What the plan takes of the GPU.
        times: Of the latest call, by the GPU's own clock; None before the first.
    """

    memory: GpuMemory

    def __init__(self, path: Path) -> None:
        """Load ``path``.

        Raises:
            ArtefactError: the plan is damaged, was changed after export, is for another GPU or version, or the GPU
                has too little memory left.
            MissingDependencyError: no library, no driver or no GPU; the hint names the ONNX of the plan.
        """
        self._path = path
        self.sidecar = read_sidecar(path)
        plan = _read_plan(path, self.sidecar)
        self.workers = 1
        self.times: DeviceTimes | None = None
        elsewhere = _way_without_gpu(path, self.sidecar)
        try:
            # The driver first: a TensorRT runtime without one ends the whole process.
            self._gpu = CudaDevice()
            library = load_library(self.sidecar.builder if self.sidecar else None)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{path} cannot run on this machine: {error.message}.", elsewhere) from error
        self.device = f"TensorRT {self._gpu.name}"
        self._plan: LoadedPlan | None = None
        self._lanes: list[Lane] = []
        self._calls: dict[tuple[int, int], RepeatedCall] = {}
        self._scratch: Any = None
        self._latest: Lane | None = None
        try:
            with self._gpu.current():
                self._load(library, plan)
        except (ArtefactError, self._gpu.driver.Error) as error:
            self.close()
            raise ArtefactError(
                f"{path} cannot run here: {error}.{_difference(self.sidecar, self._gpu, library.__version__)}",
                f"{_way_out(str(error), self.sidecar)} {elsewhere}",
            ) from error

    def _load(self, library: Any, plan: bytes) -> None:
        free = self._gpu.free_bytes()
        if free < len(plan):
            raise ArtefactError(
                f"out of memory: the GPU has {free >> 20} MiB left, and the plan alone has {mib(len(plan))} MiB"
            )
        # The sidecar's word counts, because the plan is the one that it describes: see ``_read_plan``.
        options = self.sidecar.options if self.sidecar else NO_OPTIONS
        self._plan = loaded = LoadedPlan(library, plan, options)
        self.inputs, self.outputs = loaded.inputs, loaded.outputs
        tensors = [*self.inputs.values(), *self.outputs.values()]
        self.memory = fit_lanes(
            self._gpu.free_bytes(),
            loaded.engine_bytes,
            batches=(loaded.batch,) if loaded.fixed_batch else halves(loaded.batch),
            scratch=loaded.scratch_bytes,
            io=lambda batch: sum(tensor.nbytes(batch) for tensor in tensors),
        )
        if (self.memory.lanes, self.memory.batch) != (MAX_LANES, loaded.batch):
            _log.warning(
                "GPU memory is short: %s runs %d batches of %d tiles at a time, instead of %d of %d.",
                self._path, self.memory.lanes, self.memory.batch, MAX_LANES, loaded.batch,
            )  # fmt: skip
        self._recorder = GraphRecorder(self._path.name, None if loaded.records_itself else load_graph_api())
        self._scratch = self._gpu.driver.mem_alloc(max(self.memory.scratch, 1))
        for _ in range(self.memory.lanes):
            self._lanes.append(Lane(self._gpu.driver, self.inputs, self.outputs, self.memory.batch))

    @property
    def _loaded(self) -> LoadedPlan:
        assert self._plan is not None, "closed"
        return self._plan

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``outputs``; see ``GraphRunner.run``."""
        (results,) = self.stream(outputs, [feeds])
        return results

    def stream(self, outputs: Sequence[str], many: Iterable[Feeds]) -> Generator[list[Pixels], None, None]:
        """Compute ``outputs`` for many feeds, see ``GraphRunner.stream``: one while its neighbours are copied.

        What has a batch in front may have fewer items than ``memory.batch``.
        """
        free, busy = deque(self._lanes), deque[tuple[Lane, dict[str, int]]]()
        try:
            for feeds in many:
                lane = free.popleft()
                busy.append((lane, dict.fromkeys(outputs, len(feeds[INPUT_NAME]))))
                self._start(lane, feeds, busy[-1][1])
                if not free:
                    yield self._results(*busy[0])
                    free.append(busy.popleft()[0])
            while busy:
                yield self._results(*busy[0])
                busy.popleft()
        finally:
            # What is on its way must have arrived before the buffers are used for something else.
            for lane, _ in busy:
                with self._running():
                    lane.finish()

    def time_layers(self, feeds: Feeds, runs: int) -> list[list[LayerRun]]:
        """Compute the same ``runs`` times, and return the times of all layers in each.

        Raises:
            ArtefactError: the library or the driver refused.
        """
        with self._running():
            return self._time_layers(feeds, runs)

    def _time_layers(self, feeds: Feeds, runs: int) -> list[list[LayerRun]]:
        """As ``time_layers``; the execution context goes at the end, while the CUDA context is still current."""
        lane, found = self._lanes[0], []
        enqueue, layers = self._loaded.bind_timed(self._batch_of(feeds), lane.addresses, self._scratch_memory())
        for _ in range(runs):
            layers.clear()
            lane.start(feeds, {}, lambda: enqueue(lane.stream_handle), self._latest)
            lane.finish()
            found.append(layers[:])
        return found

    def _start(self, lane: Lane, feeds: Feeds, counts: Mapping[str, int]) -> None:
        with self._running():
            lane.start(feeds, counts, self._call(lane, self._batch_of(feeds)).queue, self._latest)
        self._latest = lane

    def _batch_of(self, feeds: Feeds) -> int:
        return self.memory.batch if self._loaded.fixed_batch else len(feeds[INPUT_NAME])

    def _call(self, lane: Lane, batch: int) -> RepeatedCall:
        """Return the call of a lane for a size of batch, made when it is needed first."""
        key = self._lanes.index(lane), batch
        if key not in self._calls:
            enqueue = self._loaded.bind(batch, lane.addresses, self._scratch_memory())
            self._calls[key] = RepeatedCall(enqueue, lane.stream_handle, self._recorder)
        return self._calls[key]

    def _scratch_memory(self) -> tuple[int, int]:
        return int(self._scratch), self.memory.scratch

    def _results(self, lane: Lane, counts: Mapping[str, int]) -> list[Pixels]:
        with self._running():
            lane.wait()
            self.times = lane.times()
        return [lane.outputs[name].host[:count].copy() for name, count in counts.items()]

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Use the GPU in the block; name plan and device when it fails."""
        try:
            with self._gpu.current():
                yield
        except (ArtefactError, self._gpu.driver.Error) as error:
            raise ArtefactError(f"{self._path} failed on {self.device}: {error}.", "Try again.") from error

    def close(self) -> None:
        """Free graphs, buffers, engine and context."""
        with self._gpu.current():
            for call in self._calls.values():
                call.close()
            self._calls = {}  # and with them the execution contexts, before their scratch memory and engine
            for lane in self._lanes:
                lane.free()
            if self._scratch is not None:
                self._scratch.free()
            if self._plan is not None:
                self._plan.close()
            # Pinned memory, streams and events belong to the context.
            self._lanes, self._latest, self._scratch, self._plan = [], None, None, None
        self._gpu.close()


def _read_plan(path: Path, sidecar: PlanSidecar | None) -> bytes:
    """Read the plan and compare it with what its sidecar was written for."""
    try:
        with open_file(path) as stream:
            plan = stream.read()
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
    """Return how to upscale on a machine that cannot run the plan."""
    onnx = path.with_name(sidecar.onnx_file) if sidecar else path.with_suffix(".onnx")
    if onnx.is_file():
        exact = onnx.name.endswith(EXACT_SUFFIX)
        engine = onnx.with_name(onnx.name.removesuffix(EXACT_SUFFIX) + ".onnx") if exact else onnx
        how = f"{engine} --exact" if exact else engine
        return f"Run the ONNX next to it, which needs no GPU: `drc-deploy upscale in.png --engine {how}`."
    return f"Run the ONNX that it was built from ({onnx.name}), which needs no GPU."


def _way_out(reason: str, sidecar: PlanSidecar | None) -> str:
    """Return how to get a plan to run here, after this one was refused for ``reason``."""
    words = reason.lower()
    if _UNSUPPORTED_GPU in words:
        return "Install TensorRT (`pip install 'drc-deploy[trt]'`) and run `drc-deploy export --trt fp16` here."
    if any(part in words for part in _MEMORY_WORDS):
        return (
            "Another process may hold the GPU's memory (`nvidia-smi` lists them): end it, or export the plan with a "
            "smaller --tile or --max-batch."
        )
    if _OLD_DRIVER in words:
        return "Install a newer NVIDIA driver."
    if sidecar is None:
        return (
            "Copy its sidecar (NAME.plan.json) next to it: without one, a version-compatible plan may not run the code "
            "that it brings. Or export the plan on this machine: `drc-deploy export --trt fp16`."
        )
    return "Export the plan on this machine: `drc-deploy export --trt fp16`."


def _difference(sidecar: PlanSidecar | None, gpu: CudaDevice, version: str) -> str:
    """Return how this machine differs from the one that built the plan; empty when nothing is known."""
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
