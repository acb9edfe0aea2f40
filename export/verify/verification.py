"""The check before any file is kept: torch against ONNX Runtime, and against the engine where it can run."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drc_deploy.engine_info import (
    EXACT_PLAN_SUFFIX,
    KERNEL_PLAN_SUFFIX,
    RESTORER_PLAN_SUFFIX,
    EngineInfo,
    IoDtype,
    Precision,
)
from drc_deploy.errors import MissingDependencyError, VerificationError
from drc_deploy.export.compare.agreement import NOTES, REQUIRED_PSNR_DB, Agreement, require_psnr, to_uint8
from drc_deploy.export.compare.reference import pixel_network, reference_outputs
from drc_deploy.export.compare.samples import check_batches, tile_batch
from drc_deploy.export.compare.widening import open_for_check
from drc_deploy.export.precision.int8 import Int8Cost
from drc_deploy.export.precision.sparing import PrecisionChoice, SparedLayer
from drc_deploy.models.network import SRNetwork
from drc_deploy.runtime.backends.blind_parts import open_restorer
from drc_deploy.runtime.backends.contract import Backend, Pixels
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.tiling.exact import ExactBackend, open_exact
from drc_deploy.runtime.upscaler import Upscaler

TENSORRT_INT8_NOTE = (
    "The INT8 graph is in the form that TensorRT reads, which ONNX Runtime computes in float32 with conversions: it is "
    "slower there than the float32 graph. `--precision int8` without --trt makes the form for a CPU."
)


@dataclass(frozen=True, slots=True)
class Verification:
    """Results of the check, each against torch in float32."""

    required_psnr_db: float
    shapes: tuple[tuple[int, ...], ...]
    """(N, H, W, 3) of each batch of real images."""
    reference_saturated_share: float
    """Share of samples at 0 or 255 that torch in float32 gives."""
    onnx_device: str
    """Device that ran the ONNX files."""
    onnx_float: Agreement
    """The float32 variant."""
    onnx_uint8: Agreement
    """The uint8 variant, against the rounded reference."""
    rounded: Agreement | None
    """The graph with the result of every operation rounded to its precision; None for FP32 and INT8."""
    spared_layers: tuple[SparedLayer, ...] = ()
    """Layers of the body that had to stay in float32, and why."""
    int8: Int8Cost | None = None
    """Error of INT8; None in another precision."""
    engine: Agreement | None = None
    """The TensorRT plan, against the rounded reference; None when it could not run here."""
    note: str = ""


def verify_onnx(
    network: SRNetwork, files: Mapping[IoDtype, Path], choice: PrecisionChoice, info: EngineInfo
) -> Verification:
    """Run real images through torch and through both ONNX files, which take what ``info`` says.

    Raises:
        VerificationError: an output is too far from torch's, or not finite; the message names the measure.
        ArtefactError: ONNX Runtime refuses a file.
    """
    batches = check_batches(info)
    references = reference_outputs(pixel_network(network), batches)
    floats, device = _run_file(files["float32"], [batch.astype(np.float32) for batch in batches])
    onnx_float = Agreement.between(references, floats)
    require_psnr(onnx_float, choice.precision, f"the ONNX graph in {device}")
    bytes_, _ = _run_file(files["uint8"], batches)
    onnx_uint8 = Agreement.between([to_uint8(reference) for reference in references], bytes_)
    _require_rounding(onnx_float, onnx_uint8)
    return Verification(
        required_psnr_db=REQUIRED_PSNR_DB[choice.precision],
        shapes=tuple(batch.shape for batch in batches),
        reference_saturated_share=Agreement.between(references, references).saturated_share,
        onnx_device=device,
        onnx_float=onnx_float,
        onnx_uint8=onnx_uint8,
        rounded=choice.agreement,
        spared_layers=choice.spared,
        note=NOTES[choice.precision],
    )


def verify_engine(verification: Verification, network: SRNetwork, plan: Path, precision: Precision) -> Verification:
    """Run the plan on real images where this machine can, and add the result.

    Args:
        verification: the result so far.
        network: the network in float32.
        plan: a plan of uint8 pixels, an exact one, or the restorer of a blind network, with its sidecar. The estimator
            of one is checked together with that.
        precision: of the plan.

    Raises:
        VerificationError: the engine's output is too far from torch's.
        ArtefactError: the plan cannot be loaded on the GPU that it was built on.
    """
    if plan.name.endswith(KERNEL_PLAN_SUFFIX):
        return verification
    try:
        backend = _open_plan(plan)
    except MissingDependencyError as error:
        # The plan has its final name already, but not its final folder.
        reason = error.message.replace(str(plan.absolute()), plan.name)
        return dataclasses.replace(verification, note=f"{verification.note} Not run here: {reason}".strip())
    # An exact plan is compared over several tiles, which are as the whole image only with its means.
    sides = 2 if isinstance(backend, ExactBackend) else 1
    with Upscaler(backend) as upscaler:
        assert backend.info.tile is not None  # a plan always runs at the one size that it was tuned for
        batch = tile_batch(min(2, backend.info.max_batch), *(sides * side for side in backend.info.tile))
        output = backend.run(batch) if sides == 1 else upscaler(batch[0])[None]
    reference = to_uint8(reference_outputs(pixel_network(network), [batch])[0])
    engine = Agreement.between([reference], [output])
    require_psnr(engine, precision, "the TensorRT engine")
    return dataclasses.replace(verification, engine=engine)


def _open_plan(plan: Path) -> Backend:
    if plan.name.endswith(RESTORER_PLAN_SUFFIX):
        return open_restorer(plan)
    return open_exact(plan) if plan.name.endswith(EXACT_PLAN_SUFFIX) else open_backend(plan)


def _require_rounding(floats: Agreement, bytes_: Agreement) -> None:
    """Rounding two numbers moves them apart by less than one level: more is a fault of the uint8 graph."""
    if bytes_.max_difference > floats.max_difference + 1:
        raise VerificationError(
            f"the uint8 graph is off by {bytes_.max_difference:.0f} grey levels where the float graph is off by "
            f"{floats.max_difference:.2f}.",
            "Report this network: no file was written.",
        )


def _run_file(path: Path, batches: Sequence[Pixels]) -> tuple[list[Pixels], str]:
    with open_for_check(path) as backend:
        return [backend.run(batch) for batch in batches], backend.device
