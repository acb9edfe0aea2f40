"""A plan and its sidecar, from a checked ONNX file."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.engine_info import EngineInfo, PlanSidecar, Precision, sidecar_path
from drc_deploy.errors import VerificationError
from drc_deploy.export.builders import PlanShape, build_plan
from drc_deploy.export.gpu import Gpu, find_gpu
from drc_deploy.export.libraries import Library, find_library
from drc_deploy.export.request import BuilderChoice
from drc_deploy.export.sparing import PrecisionChoice
from drc_deploy.export.verification import Verification, verify_engine
from drc_deploy.files import sha256_of, write_bytes, write_text
from drc_deploy.models.network import SRNetwork


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

    def write(self, onnx_file: Path, info: EngineInfo, network: SRNetwork, verification: Verification) -> PlanSidecar:
        """Build a plan beside ``onnx_file``, run it where possible, and write its sidecar last.

        Args:
            onnx_file: the uint8 variant.
            info: what the plan is to be.
            network: in float32, what the plan is compared with.
            verification: the result of the ONNX files.

        Raises:
            ArtefactError: the library refuses or fails.
            VerificationError: the plan is not in the precision asked for, or computes something else.
        """
        plan = onnx_file.with_suffix(".plan")
        built = build_plan(self.library, onnx_file, info.precision, PlanShape(info.tile, info.max_batch))
        write_bytes(plan, built.plan)
        sidecar = PlanSidecar(
            engine=info,
            builder=self.library.name,
            builder_version=self.library.version,
            gpu=self.gpu.name if self.gpu else None,
            compute_capability=self.gpu.compute_capability if self.gpu else None,
            driver=self.gpu.driver if self.gpu else None,
            onnx_file=onnx_file.name,
            onnx_sha256=sha256_of(onnx_file),
            plan_sha256=sha256_of(plan),
            precision_requested=info.precision,
            layers_by_precision=dict(built.precision.layers),
            precision_source=built.precision.source,
            verification=dataclasses.asdict(verification),
        )
        # The runtime reads the sidecar when it runs the plan for the check.
        write_text(sidecar_path(plan), sidecar.to_json())
        checked = verify_engine(verification, network, plan, info.precision)
        sidecar = dataclasses.replace(sidecar, verification=dataclasses.asdict(checked))
        write_text(sidecar_path(plan), sidecar.to_json())
        return sidecar
