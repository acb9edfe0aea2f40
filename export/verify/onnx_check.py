"""A plan against the ONNX that it was built from, on a machine that has neither torch nor the checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drc_deploy.engine_info import KERNEL_PLAN_SUFFIX, RESTORER_PLAN_SUFFIX, RESTORER_SUFFIX, Precision
from drc_deploy.errors import DrcDeployError, MissingDependencyError, VerificationError
from drc_deploy.export.compare.agreement import REQUIRED_PSNR_DB, Agreement, require_psnr
from drc_deploy.export.compare.samples import tile_batch
from drc_deploy.runtime.backends.blind_parts import open_restorer
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.tiling.rescue import is_broken


@dataclass(frozen=True, slots=True)
class OnnxVerification:
    """Result of the check of a plan against its ONNX, which was checked against torch when it was made."""

    required_psnr_db: float
    engine: Agreement | None
    """The plan against ONNX Runtime on a CPU, 8-bit samples; None when one of them could not run here."""
    note: str
    """Comparisons that could not be made, and why; empty when all were."""


def verify_against_onnx(plan: Path, onnx_file: Path, precision: Precision) -> OnnxVerification:
    """Run a plan on real images, and the ONNX file on the same ones.

    Args:
        plan: with its sidecar next to it. The estimator of a blind network is checked together with the restorer.
        onnx_file: the uint8 variant, or such a part.
        precision: of the plan.

    Raises:
        VerificationError: the plan's output is too far from the ONNX file's or, where that cannot run, is no
            image of its input.
        ArtefactError: the plan cannot be loaded on the GPU that it was built on.
    """
    required = REQUIRED_PSNR_DB[precision]
    if plan.name.endswith(KERNEL_PLAN_SUFFIX):
        return OnnxVerification(required, None, "Checked together with what is given the kernel.")
    restorer = plan.name.endswith(RESTORER_PLAN_SUFFIX)
    try:
        backend = open_restorer(plan) if restorer else open_backend(plan)
    except MissingDependencyError as error:
        # The plan has its final name already, but not its final folder.
        return OnnxVerification(
            required, None, f"Not run here: {error.message.replace(str(plan.absolute()), plan.name)}"
        )
    with backend:
        assert backend.info.tile is not None  # a plan always runs at the one size that it was tuned for
        tiles = 1 if restorer else min(2, backend.info.max_batch)  # tiles of a batch share a kernel
        batch = tile_batch(tiles, *backend.info.tile).astype(backend.info.io_dtype)
        output = backend.run(batch)
    try:
        expected = _run_onnx(onnx_file, batch)
    except DrcDeployError as error:  # no ONNX Runtime, or one that cannot run this file
        _require_images(batch, output)
        return OnnxVerification(required, None, f"Run here, and compared with nothing: {error.message}")
    engine = Agreement.between([expected], [output])
    require_psnr(engine, precision, "the TensorRT engine", reference="the ONNX file in ONNX Runtime")
    return OnnxVerification(required, engine, "")


def _require_images(batch: Pixels, output: Pixels) -> None:
    broken = sum(is_broken(tile, result) for tile, result in zip(batch, output, strict=True))
    if broken:
        raise VerificationError(
            f"{broken} of {len(batch)} results of the TensorRT engine are no images of their input.",
            "Build with --trt fp32, from an ONNX file in fp32.",
        )


def _run_onnx(path: Path, batch: Pixels) -> Pixels:
    restorer = path.name.endswith(RESTORER_SUFFIX)
    with open_restorer(path) if restorer else OnnxRuntimeBackend(path, cpu_only=True) as backend:
        # One at a time: the file may have been exported for smaller batches.
        return np.concatenate([backend.run(tile[None]) for tile in batch])
