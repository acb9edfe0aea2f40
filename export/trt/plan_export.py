"""A plan and its sidecar, from a checked ONNX file."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drc_deploy.engine_info import EngineInfo, PlanOptions, PlanSidecar, Precision, sidecar_path
from drc_deploy.errors import VerificationError
from drc_deploy.export.request import BuilderChoice
from drc_deploy.export.trt.builders import BuildOptions, PlanShape, build_plan
from drc_deploy.export.trt.gpu import Gpu, find_gpu
from drc_deploy.export.trt.libraries import Library, find_library
from drc_deploy.export.trt.plan_options import require_options
from drc_deploy.export.trt.plan_source import RECIPE, PlanInPlace
from drc_deploy.export.trt.timing_cache import timing_cache_path
from drc_deploy.files import sha256_of, write_bytes, write_text

if TYPE_CHECKING:  # torch, which a machine that only builds plans lacks
    from drc_deploy.export.precision.sparing import PrecisionChoice

CheckPlan = Callable[[Path], dict[str, Any]]
"""Runs a plan where it can and returns the record for its sidecar; raises VerificationError where it is wrong."""


@dataclass(frozen=True, slots=True)
class PlanJob:
    """One plan to be made."""

    info: EngineInfo
    """Description of the plan."""
    plan: Path
    """The file to make."""
    in_place: Path
    """The file that it will replace, which need not exist."""
    workspace_mib: int | None
    """Cap on scratch memory; None for the default."""
    options: PlanOptions
    """On what else than this machine it is to run."""


@dataclass(frozen=True, slots=True)
class FinishedPlan:
    """A plan that is ready to be published."""

    sidecar: PlanSidecar
    history: str
    """Whether it was built or kept, and why, in a sentence."""


@dataclass(frozen=True, slots=True)
class PlanBuilder:
    """The TensorRT and the GPU that build here."""

    library: Library
    gpu: Gpu | None

    @classmethod
    def find(cls, choice: BuilderChoice, options: PlanOptions) -> "PlanBuilder":
        """Find the library and the GPU of this machine.

        Raises:
            MissingDependencyError: it has nothing that builds plans, or not such as ``options`` asks for.
        """
        gpu = find_gpu()
        library = find_library(choice, gpu)
        require_options(library, options)
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

    def write(self, onnx_file: Path, job: PlanJob, check: CheckPlan) -> FinishedPlan:
        """Make a plan of ``onnx_file``, run it where possible, and write its sidecar last.

        The plan in place is kept where a build would make the same again.

        Args:
            onnx_file: the uint8 variant, or the exact one.
            job: what the plan is to be.
            check: compares it with what it is to compute.

        Raises:
            ArtefactError: the library refuses or fails.
            VerificationError: the plan is not in the precision asked for, or computes something else.
        """
        wanted = self._wanted(onnx_file, job)
        in_place = PlanInPlace.compare(job.in_place, wanted)
        if in_place.sidecar is not None:
            # Into the staging folder, so that it is checked and moved together with the other files.
            write_bytes(job.plan, job.in_place.read_bytes())
            sidecar = dataclasses.replace(in_place.sidecar, engine=job.info, onnx_file=onnx_file.name)
        else:
            sidecar = self._build(onnx_file, job, wanted)
        # The runtime reads the sidecar when it runs the plan for the check.
        write_text(sidecar_path(job.plan), sidecar.to_json())
        sidecar = dataclasses.replace(sidecar, verification=check(job.plan))
        write_text(sidecar_path(job.plan), sidecar.to_json())
        return FinishedPlan(sidecar, in_place.history)

    def _wanted(self, onnx_file: Path, job: PlanJob) -> PlanSidecar:
        """Return the sidecar of the plan as far as it is known before the build."""
        return PlanSidecar(
            engine=job.info,
            builder=self.library.name,
            builder_version=self.library.version,
            gpu=self.gpu.name if self.gpu else None,
            compute_capability=self.gpu.compute_capability if self.gpu else None,
            driver=self.gpu.driver if self.gpu else None,
            onnx_file=onnx_file.name,
            onnx_sha256=sha256_of(onnx_file),
            plan_sha256="",
            precision_requested=job.info.precision,
            layers_by_precision={},
            precision_source="",
            verification={},
            workspace_mib=job.workspace_mib,
            recipe=RECIPE,
            options=job.options,
        )

    def _build(self, onnx_file: Path, job: PlanJob, wanted: PlanSidecar) -> PlanSidecar:
        info = job.info
        options = BuildOptions(job.workspace_mib, timing_cache_path(self.library, self.gpu), job.options)
        shape = PlanShape(info.tile, info.max_batch, whole_batches=job.options.dla_core is not None)
        built = build_plan(self.library, onnx_file, info.precision, shape, options)
        write_bytes(job.plan, built.plan)
        return dataclasses.replace(
            wanted,
            plan_sha256=sha256_of(job.plan),
            layers_by_precision=dict(built.precision.layers),
            precision_source=built.precision.source,
            dla=built.dla,
        )
