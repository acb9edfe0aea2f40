"""A plan and its sidecar, from a checked ONNX file."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.engine_info import EngineInfo, PlanSidecar, Precision, sidecar_path
from drc_deploy.errors import VerificationError
from drc_deploy.export.builders import BuildOptions, PlanShape, build_plan
from drc_deploy.export.gpu import Gpu, find_gpu
from drc_deploy.export.libraries import Library, find_library
from drc_deploy.export.plan_source import PlanInPlace, PlanSource
from drc_deploy.export.request import BuilderChoice
from drc_deploy.export.sparing import PrecisionChoice
from drc_deploy.export.timing_cache import timing_cache_path
from drc_deploy.export.verification import Verification, verify_engine
from drc_deploy.files import sha256_of, write_bytes, write_text
from drc_deploy.models.network import SRNetwork


@dataclass(frozen=True, slots=True)
class PlanJob:
    """One plan to be made."""

    info: EngineInfo
    """What the plan is to be."""
    in_place: Path
    """The file that it will replace, which need not exist."""
    workspace_mib: int | None
    """Cap on scratch memory; None for the default."""


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
    def find(cls, choice: BuilderChoice) -> "PlanBuilder":
        """Find out what this machine has.

        Raises:
            MissingDependencyError: it has nothing that builds plans.
        """
        gpu = find_gpu()
        return cls(find_library(choice, gpu), gpu)

    def graph_precision(self, choice: PrecisionChoice) -> Precision:
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

    def write(self, onnx_file: Path, job: PlanJob, network: SRNetwork, verification: Verification) -> FinishedPlan:
        """Make a plan beside ``onnx_file``, run it where possible, and write its sidecar last.

        The plan that is already in place is taken over where building would give the same again.

        Args:
            onnx_file: the uint8 variant, or the exact one.
            job: what the plan is to be.
            network: in float32, what the plan is compared with.
            verification: the result of the ONNX files.

        Raises:
            ArtefactError: the library refuses or fails.
            VerificationError: the plan is not in the precision asked for, or computes something else.
        """
        plan = onnx_file.with_suffix(".plan")
        source = self._source(onnx_file, job)
        in_place = PlanInPlace.compare(job.in_place, source)
        if in_place.sidecar is not None:
            write_bytes(plan, job.in_place.read_bytes())
            sidecar = dataclasses.replace(in_place.sidecar, engine=job.info, onnx_file=onnx_file.name)
        else:
            sidecar = self._build(onnx_file, plan, job, source)
        sidecar = dataclasses.replace(sidecar, verification=dataclasses.asdict(verification))
        # The runtime reads the sidecar when it runs the plan for the check.
        write_text(sidecar_path(plan), sidecar.to_json())
        checked = verify_engine(verification, network, plan, job.info.precision)
        sidecar = dataclasses.replace(sidecar, verification=dataclasses.asdict(checked))
        write_text(sidecar_path(plan), sidecar.to_json())
        return FinishedPlan(sidecar, in_place.history)

    def _source(self, onnx_file: Path, job: PlanJob) -> PlanSource:
        return PlanSource(
            onnx=sha256_of(onnx_file),
            builder=self.library.name,
            builder_version=self.library.version,
            gpu=self.gpu.name if self.gpu else None,
            compute_capability=self.gpu.compute_capability if self.gpu else None,
            driver=self.gpu.driver if self.gpu else None,
            precision=job.info.precision,
            tile=job.info.tile,
            max_batch=job.info.max_batch,
            workspace=job.workspace_mib,
        )

    def _build(self, onnx_file: Path, plan: Path, job: PlanJob, source: PlanSource) -> PlanSidecar:
        info = job.info
        options = BuildOptions(job.workspace_mib, timing_cache_path(self.library, self.gpu))
        shape = PlanShape(info.tile, info.max_batch)
        built = build_plan(self.library, onnx_file, info.precision, shape, options)
        write_bytes(plan, built.plan)
        return PlanSidecar(
            engine=info,
            builder=self.library.name,
            builder_version=source.builder_version,
            gpu=source.gpu,
            compute_capability=source.compute_capability,
            driver=source.driver,
            onnx_file=onnx_file.name,
            onnx_sha256=source.onnx,
            plan_sha256=sha256_of(plan),
            precision_requested=info.precision,
            layers_by_precision=dict(built.precision.layers),
            precision_source=built.precision.source,
            verification={},
            workspace_mib=source.workspace,
            recipe=source.recipe,
        )
