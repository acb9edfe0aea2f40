"""ONNX to a TensorRT plan, with the TensorRT that is there.

Works with TensorRT 8.6 to 11 and TensorRT-RTX: differences between them are found by asking the binding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drc_deploy.engine_info import INPUT_NAME, NO_OPTIONS, DlaPlacement, PlanOptions, Precision
from drc_deploy.errors import ArtefactError, VerificationError
from drc_deploy.export.trt.layer_precision import LayerPrecision, inspect_engine, parse_inspection, precision_of_graph
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.listeners import NOT_SELF_CONSISTENT, BuildLog, make_logger, make_monitor, make_recorder
from drc_deploy.export.trt.plan_options import DlaLayers, apply_options
from drc_deploy.export.trt.timing_cache import TimingCache
from drc_deploy.progress import progress
from drc_deploy.runtime.backends.worker_pool import one_worker

DEFAULT_WORKSPACE_MIB = 2048
"""Scratch memory that a kernel may ask of TensorRT, which would else take all that the GPU has."""
LEAN_RUNTIME = "libnvinfer_lean"
"""Library that a version-compatible plan holds a copy of; TensorRT names it where it is missing."""
RANGE_PX = (8, 128, 256)
"""Smallest, tuned and largest side of the input of a plan of free size."""


@dataclass(frozen=True, slots=True)
class PlanShape:
    """Which inputs a plan accepts."""

    tile: tuple[int, int] | None
    """Height and width; None for a range of sizes."""
    max_batch: int
    whole_batches: bool = False
    """Whether every call has exactly ``max_batch`` tiles: a DLA knows one shape only."""
    range_px: tuple[int, ...] = RANGE_PX
    """Smallest, tuned and largest side of the input where the plan takes a range."""

    def limits(self) -> tuple[tuple[int, int, int, int], ...]:
        """Return the smallest, tuned and largest input shape, NHWC."""
        sides = [(side, side) for side in self.range_px] if self.tile is None else [self.tile] * 3
        batches = (self.max_batch,) * 3 if self.whole_batches else (1, 1, self.max_batch)
        return tuple((batch, *side, 3) for batch, side in zip(batches, sides, strict=True))


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Options of a build."""

    workspace_mib: int | None = None
    """Cap on scratch memory; None for ``DEFAULT_WORKSPACE_MIB``, and for no cap in TensorRT-RTX."""
    timing_cache: Path | None = None
    """File of what earlier builds measured; None to measure anew."""
    plan: PlanOptions = NO_OPTIONS
    """On what else than this machine the plan is to run."""


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A serialised engine and what was found in it."""

    plan: bytes
    precision: LayerPrecision
    declared: LayerPrecision
    """Precision of the graph's layers."""
    dla: DlaPlacement | None
    """None where no DLA was asked for."""


def build_plan(
    library: Library, onnx_file: Path, precision: Precision, shape: PlanShape, options: BuildOptions | None = None
) -> BuiltPlan:
    """Build a plan. Ctrl-C stops the build at its next step.

    Args:
        library: what builds.
        onnx_file: a graph whose precision is ``library.graph_precision(precision)``.
        precision: of the layers of the plan.
        shape: which inputs it accepts.
        options: what the build may use.

    Raises:
        ArtefactError: the library refuses the graph or fails; the message has its own words.
        MissingDependencyError: the library or this machine lacks what ``options`` asks for.
        VerificationError: the plan would be wrong at some sizes, or its layers are not in ``precision``.
    """
    log = BuildLog()
    with progress(f"Building with {library.name} {library.version}", 1) as bar, one_worker() as worker:
        build = _Build(library, log, make_monitor(library.module, log, bar), options or BuildOptions())
        try:
            # The build runs in a second thread, because an exception must not pass through the library's own code.
            built = worker.submit(build.run, onnx_file, precision, shape).result()
        except KeyboardInterrupt:
            log.cancelled.set()
            raise
        bar.advance(1, "done")
    built.precision.require(precision, built.declared)
    return built


class _Build:
    """One build. It holds what the library only borrows: logger, recorder and monitor must outlive it."""

    def __init__(self, library: Library, log: BuildLog, monitor: Any | None, options: BuildOptions) -> None:
        self._library, self._trt, self._log, self._monitor = library, library.module, log, monitor
        self._options = options
        self._logger = make_logger(self._trt, log)
        self._recorder = make_recorder(self._trt, log)

    def run(self, onnx_file: Path, precision: Precision, shape: PlanShape) -> BuiltPlan:
        builder = self._library.start_builder(self._logger)
        network = builder.create_network(self._library.network_flags)
        # Only now: a network that inherits the recorder crashes TensorRT-RTX 1.7 when it is destroyed.
        builder.error_recorder = self._recorder
        self._parse(network, onnx_file)
        config = self._configure(builder, precision, shape)
        dla = DlaLayers(self._trt, config, network) if self._options.plan.dla_core is not None else None
        timing = TimingCache(self._options.timing_cache) if self._options.timing_cache else None
        if timing:
            timing.attach(config, self._log)
        serialized = builder.build_serialized_network(network, config)
        self._check(serialized is not None, "gave no plan")
        if timing:
            timing.save()
        plan = bytes(serialized)
        declared = precision_of_graph(self._trt, network)
        inspection = inspect_engine(self._library, plan, self._logger, self._options.plan)
        found = parse_inspection(inspection)
        if dla:
            return BuiltPlan(plan, dla.add_to(found), declared, dla.placement(inspection))
        return BuiltPlan(plan, found or declared, declared, None)

    def _parse(self, network: Any, onnx_file: Path) -> None:
        # Held, because the network's weights lie in the parser's memory.
        self._parser = parser = self._trt.OnnxParser(network, self._logger)
        if self._options.plan.version_compatible or self._options.plan.hardware_compatible:
            # As a plugin, which TensorRT 8 makes of it else, InstanceNormalization would bind the plan to this version.
            parser.set_flag(self._trt.OnnxParserFlag.NATIVE_INSTANCENORM)
        parsed = parser.parse_from_file(str(onnx_file))
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            # Naming the node became possible in TensorRT 10.
            node = getattr(error, "node_name", lambda: "")()
            self._log.errors.append(f"{node}: {error.desc()}" if node else error.desc())
        self._check(parsed, f"cannot read {onnx_file.name}")

    def _configure(self, builder: Any, precision: Precision, shape: PlanShape) -> Any:
        trt = self._trt
        config = builder.create_builder_config()
        if self._monitor is not None:
            config.progress_monitor = self._monitor
        # The inspector reports the precision of layers only when the engine was built for it.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        workspace_mib = self._options.workspace_mib
        if workspace_mib is None and self._library.times_kernels:
            # Not in RTX, which fails at the limit instead of choosing another kernel.
            workspace_mib = DEFAULT_WORKSPACE_MIB
        if workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
        # It is on by default, and computes with the mantissa of float16 what is to be in float32, in a plan of any
        # precision: the layers that touch the range of 0 to 255 among them.
        config.clear_flag(trt.BuilderFlag.TF32)
        if precision == "fp16" and not self._library.strongly_typed:
            config.set_flag(trt.BuilderFlag.FP16)
        if precision == "int8" and not self._library.strongly_typed:
            config.set_flag(trt.BuilderFlag.INT8)
        apply_options(self._library, builder, config, self._options.plan)
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, *shape.limits())
        self._check(config.add_optimization_profile(profile) >= 0, "refuses the input shapes")
        return config

    def _check(self, done: bool, what: str) -> None:
        """Raise when a step failed, or when the library reported an error although it did not fail."""
        if self._log.cancelled.is_set():
            raise KeyboardInterrupt
        name = f"{self._library.name} {self._library.version}"
        if any(NOT_SELF_CONSISTENT in message for message in self._log.errors):
            raise VerificationError(
                f"{name} found that the graph holds only for one input size: {self._log.words()}",
                "Export with a fixed --tile of the size that you need.",
            )
        if not done or self._log.errors:
            hint = "The ONNX file runs with ONNX Runtime, without a plan."
            if LEAN_RUNTIME in self._log.words():
                hint = "--version-compatible needs TensorRT's lean runtime: install that library, or leave it out."
            elif self._options.plan.hardware_compatible:
                hint = "--hardware-compatible needs a GPU from Ampere on, and no JetPack has it: try without."
            if self._options.workspace_mib is not None:
                hint = f"If memory is what it lacks, give more than --workspace {self._options.workspace_mib}. {hint}"
            raise ArtefactError(f"{name} {what if not done else 'reports an error'}: {self._log.words()}.", hint)
