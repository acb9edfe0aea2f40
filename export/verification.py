"""The check before any file is kept: torch against ONNX Runtime, and against the engine where it can run."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from drc_deploy.engine_info import IoDtype, Precision
from drc_deploy.errors import MissingDependencyError, VerificationError
from drc_deploy.export.agreement import REQUIRED_PSNR_DB, Agreement, Pixels, require_psnr, to_uint8
from drc_deploy.export.diagnosis import find_infinite_layer, find_layer_fault
from drc_deploy.export.graph import PixelNetwork, with_precision
from drc_deploy.export.samples import check_batches, tile_batch
from drc_deploy.models.network import SRNetwork
from drc_deploy.runtime.backend import open_backend

FP16_NOTE = (
    "ONNX Runtime computes a float16 graph in float32 on a CPU, so that it shows only the rounding of the weights; "
    "torch_half computes every layer in float16 and stands for the GPU."
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What the check measured, each against torch in float32."""

    required_psnr_db: float
    shapes: tuple[tuple[int, ...], ...]
    """(N, H, W, 3) of each batch of real images."""
    reference_saturated_share: float
    """Share of samples at 0 or 255 that torch in float32 gives."""
    onnx_device: str
    """What ran the ONNX files."""
    onnx_float: Agreement
    """The float32 variant."""
    onnx_uint8: Agreement
    """The uint8 variant, against the rounded reference."""
    torch_half: Agreement | None
    """The network computed in float16 by torch; None for FP32."""
    engine: Agreement | None = None
    """The TensorRT plan, against the rounded reference; None when it could not run here."""
    note: str = ""


def verify_onnx(
    network: SRNetwork, files: Mapping[IoDtype, Path], precision: Precision, max_batch: int
) -> Verification:
    """Run real images through torch and through both ONNX files, which must take any size.

    Raises:
        VerificationError: an output is too far from torch's, or not finite; the message names the measure and the
            layer where float16 begins to fail.
        ArtefactError: ONNX Runtime refuses a file.
    """
    batches = check_batches(max_batch)
    full = with_precision(network, "fp32")
    references = _reference(full, batches)
    half = _verify_half(full, with_precision(network, "fp16"), batches, references) if precision == "fp16" else None
    floats, device = _run_file(files["float32"], [batch.astype(np.float32) for batch in batches])
    onnx_float = Agreement.between(references, floats)
    require_psnr(onnx_float, precision, f"the ONNX graph in {device}")
    bytes_, _ = _run_file(files["uint8"], batches)
    onnx_uint8 = Agreement.between([to_uint8(reference) for reference in references], bytes_)
    _require_rounding(onnx_float, onnx_uint8)
    return Verification(
        required_psnr_db=REQUIRED_PSNR_DB[precision],
        shapes=tuple(batch.shape for batch in batches),
        reference_saturated_share=Agreement.between(references, references).saturated_share,
        onnx_device=device,
        onnx_float=onnx_float,
        onnx_uint8=onnx_uint8,
        torch_half=half,
        note=FP16_NOTE if half else "",
    )


def verify_engine(verification: Verification, network: SRNetwork, plan: Path, precision: Precision) -> Verification:
    """Run the plan on real images where this machine can, and add the result.

    Args:
        verification: the result so far.
        network: the network in float32.
        plan: a plan of uint8 pixels with its sidecar.
        precision: of the plan.

    Raises:
        VerificationError: the engine's output is too far from torch's.
        ArtefactError: the plan cannot be loaded on the GPU that it was built on.
    """
    try:
        backend = open_backend(plan)
    except MissingDependencyError as error:
        # The plan has its final name already, but not its final folder.
        reason = error.message.replace(str(plan), plan.name)
        return dataclasses.replace(verification, note=f"{verification.note} Not run here: {reason}".strip())
    with backend:
        assert backend.info.tile is not None  # a plan always runs at the one size that it was tuned for
        batch = tile_batch(min(2, backend.info.max_batch), *backend.info.tile)
        output = backend.run(batch)
    reference = to_uint8(_reference(with_precision(network, "fp32"), [batch])[0])
    engine = Agreement.between([reference], [output])
    require_psnr(engine, precision, "the TensorRT engine")
    return dataclasses.replace(verification, engine=engine)


def _reference(full: PixelNetwork, batches: Sequence[NDArray[np.uint8]]) -> list[Pixels]:
    """Give torch's float32 output, clipped to [0, 255]."""
    outputs = [_run_torch(full, batch) for batch in batches]
    for batch, output in zip(batches, outputs, strict=True):
        if not np.isfinite(output).all():
            layer = find_infinite_layer(full, _tensor(batch))
            raise VerificationError(
                f"the network gives NaN or infinite pixels in float32. First layer at fault: {layer}.",
                "Train again, or use an older checkpoint.",
            )
    return [np.clip(output, 0, 255) for output in outputs]


def _verify_half(
    full: PixelNetwork, half: PixelNetwork, batches: Sequence[NDArray[np.uint8]], references: Sequence[Pixels]
) -> Agreement:
    """Judge the network computed in float16, and find the layer at fault when it fails."""
    outputs = [_run_torch(half, batch) for batch in batches]
    # Before clipping, which could make a number of an infinity.
    broken = any(not np.isfinite(output).all() for output in outputs)
    agreement = Agreement.between(references, outputs if broken else [np.clip(output, 0, 255) for output in outputs])
    if agreement.psnr_db < REQUIRED_PSNR_DB["fp16"]:
        faults = (find_layer_fault(full, half, _tensor(batch)) for batch in batches)
        cause = next((str(fault) for fault in faults if fault), "")
        what = "the network in float16 gives NaN or infinite pixels and" if broken else "the network in float16"
        require_psnr(agreement, "fp16", what, cause)
    return agreement


def _require_rounding(floats: Agreement, bytes_: Agreement) -> None:
    """Rounding two numbers moves them apart by less than one level: more is a fault of the uint8 graph."""
    if bytes_.max_difference > floats.max_difference + 1:
        raise VerificationError(
            f"the uint8 graph is off by {bytes_.max_difference:.0f} grey levels where the float graph is off by "
            f"{floats.max_difference:.2f}.",
            "Report this network: no file was written.",
        )


def _run_file(path: Path, batches: Sequence[Pixels]) -> tuple[list[Pixels], str]:
    with open_backend(path) as backend:
        return [backend.run(batch) for batch in batches], backend.device


def _run_torch(network: PixelNetwork, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        output: NDArray[np.float32] = network(_tensor(batch)).numpy()
    return output


def _tensor(batch: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(batch.astype(np.float32))
