"""A plan and its sidecar, from a checked ONNX file."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drc_deploy.engine_info import EngineInfo, PlanSidecar, Precision, read_sidecar, sidecar_path
from drc_deploy.errors import ArtefactError, MissingDependencyError, VerificationError
from drc_deploy.export.request import BuilderChoice, ExportRequest
from drc_deploy.export.trt.builders import RANGE_PX, BuildOptions, PlanShape, build_plan
from drc_deploy.export.trt.gpu import Gpu, find_gpu
from drc_deploy.export.trt.libraries import Library, find_library
from drc_deploy.export.trt.plan_options import require_options
from drc_deploy.export.trt.timing_cache import timing_cache_path
from drc_deploy.files import sha256_of, write_bytes, write_text

if TYPE_CHECKING:  # torch, which a machine that only builds plans lacks
    from drc_deploy.export.precision.sparing import PrecisionChoice

RECIPE = 1
"""Version of the settings of ``builders.py`` that no sidecar has; raised when they change."""
CheckPlan = Callable[[Path], dict[str, Any]]
"""Runs a plan where it can and returns the record for its sidecar; raises VerificationError where it is wrong."""


@dataclass(frozen=True, slots=True)
class PlanBuilder:
    """The TensorRT and the GPU that build here."""

    library: Library
    gpu: Gpu | None

    @classmethod
    def find(cls, choice: BuilderChoice, request: ExportRequest) -> "PlanBuilder":
        """Find the library and the GPU of this machine.

        Raises:
            MissingDependencyError: it has nothing that builds plans, or not such as ``request`` asks for.
        """
        gpu = find_gpu()
        library = find_library(choice, gpu)
        if request.triton and library.name != "tensorrt":
            raise MissingDependencyError(
                "Triton runs plans of TensorRT, and not those of TensorRT-RTX.",
                "Export on the machine with the GPU and TensorRT (--builder tensorrt), or leave out --trt.",
            )
        require_options(library, request.options)
        return cls(library, gpu)

    def graph_precision(self, choice: "PrecisionChoice") -> Precision:
        """Precision that the ONNX must have for a plan of the precision chosen.

        Raises:
            VerificationError: the library chooses precisions by itself, and some layers must stay in float32.
        """
        precision = self.library.graph_precision(choice.precision)
        if choice.spared and precision != choice.precision:
            raise VerificationError(
                f"{choice.spared[0].layer} must stay in float32 ({choice.spared[0].reason}), and "
                f"{self.library.name} {self.library.version} chooses the precision of layers by itself.",
                "Export with --trt fp32, or build with TensorRT 10 or newer.",
            )
        return precision

    def write(
        self, onnx_file: Path, plan: Path, info: EngineInfo, request: ExportRequest, check: CheckPlan
    ) -> tuple[PlanSidecar, str]:
        """Make a plan of ``onnx_file``, run it where possible, and write its sidecar last.

        The plan in place is kept where a build would make the same again. Returned are the content of the sidecar, and
        a sentence: whether the plan was built or kept, and why.

        Args:
            onnx_file: the uint8 variant, or the exact one.
            plan: the file to make; one of its name in ``request.folder`` is what it will replace.
            info: description of the plan.
            request: how it is built.
            check: compares it with what it is to compute.

        Raises:
            ArtefactError: the library refuses or fails.
            VerificationError: the plan is not in the precision asked for, or computes something else.
        """
        wanted = self._wanted(onnx_file, info, request)
        old = request.folder / plan.name
        kept, history = keepable(old, wanted)
        if kept is not None:
            # Into the staging folder, so that it is checked and moved together with the other files.
            write_bytes(plan, old.read_bytes())
            sidecar = dataclasses.replace(kept, engine=info, onnx_file=onnx_file.name)
        else:
            sidecar = self._build(onnx_file, plan, wanted)
        # The runtime reads the sidecar when it runs the plan for the check.
        write_text(sidecar_path(plan), sidecar.to_json())
        sidecar = dataclasses.replace(sidecar, verification=check(plan))
        write_text(sidecar_path(plan), sidecar.to_json())
        return sidecar, history

    def _wanted(self, onnx_file: Path, info: EngineInfo, request: ExportRequest) -> PlanSidecar:
        """Return the sidecar of the plan as far as it is known before the build."""
        return PlanSidecar(
            engine=info,
            builder=self.library.name,
            builder_version=self.library.version,
            gpu=self.gpu.name if self.gpu else None,
            compute_capability=self.gpu.compute_capability if self.gpu else None,
            driver=self.gpu.driver if self.gpu else None,
            onnx_file=onnx_file.name,
            onnx_sha256=sha256_of(onnx_file),
            plan_sha256="",
            precision_requested=info.precision,
            layers_by_precision={},
            precision_source="",
            verification={},
            workspace_mib=request.workspace_mib,
            recipe=RECIPE,
            options=request.options,
        )

    def _build(self, onnx_file: Path, plan: Path, wanted: PlanSidecar) -> PlanSidecar:
        info = wanted.engine
        options = BuildOptions(wanted.workspace_mib, timing_cache_path(self.library, self.gpu), wanted.options)
        on_dla, range_px = wanted.options.dla_core is not None, tuple(map(info.taken_side, RANGE_PX))
        shape = PlanShape(info.tile, info.max_batch, whole_batches=on_dla, range_px=range_px)
        built = build_plan(self.library, onnx_file, info.precision, shape, options)
        write_bytes(plan, built.plan)
        return dataclasses.replace(
            wanted,
            plan_sha256=sha256_of(plan),
            layers_by_precision=dict(built.precision.layers),
            precision_source=built.precision.source,
            dla=built.dla,
        )


def keepable(plan: Path, wanted: PlanSidecar) -> tuple[PlanSidecar | None, str]:
    """Return the sidecar of a plan that need not be built again, and a sentence for the user: kept or built, and why.

    Args:
        plan: the plan in place; it and its sidecar may be missing or damaged.
        wanted: the plan to be made.
    """
    if not plan.is_file():
        return None, f"Built {plan.name}."
    rebuilt = f"Built {plan.name} anew"
    try:
        sidecar = read_sidecar(plan)
        intact = sidecar is not None and sidecar.plan_sha256 == sha256_of(plan)
    except (ArtefactError, OSError):
        sidecar, intact = None, False
    if sidecar is None:
        return None, f"{rebuilt}: the one in place has no sidecar that can be read."
    if not intact:
        return None, f"{rebuilt}: the one in place is not the file that its sidecar describes."
    if changes := _changes(sidecar, wanted):
        return None, f"{rebuilt}: changed are {', '.join(changes)}."
    same = f"same ONNX, {wanted.builder} {wanted.builder_version}, GPU, driver, shapes and options"
    return sidecar, f"Kept {plan.name}: {same}."


def _built_from(sidecar: PlanSidecar) -> dict[str, object]:
    """Return all that decides on the content of a plan, by the names that users read when one has changed."""
    return {
        "onnx": sidecar.onnx_sha256,
        "builder": sidecar.builder,
        "builder version": sidecar.builder_version,
        "gpu": sidecar.gpu,
        "compute capability": sidecar.compute_capability,
        "driver": sidecar.driver,
        "precision": sidecar.precision_requested,
        "tile": sidecar.engine.tile,
        "max batch": sidecar.engine.max_batch,
        "workspace": sidecar.workspace_mib,
        **{name.replace("_", " "): value for name, value in dataclasses.asdict(sidecar.options).items()},
        "recipe": sidecar.recipe,
    }


def _changes(old: PlanSidecar, new: PlanSidecar) -> list[str]:
    """Return what differs, field by field."""
    before, now = _built_from(old), _built_from(new)
    return [f"{name} from {_short(before[name])} to {_short(now[name])}" for name in now if before[name] != now[name]]


def _short(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", False: "no", True: "yes"}[value]
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) < 64 else f"{text[:12]}..."  # the beginning of a SHA-256 identifies it
