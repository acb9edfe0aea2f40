"""An engine that is already there against its checkpoint, on this machine."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drc_deploy import locate
from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.engine_info import EngineInfo, IoDtype, Precision
from drc_deploy.errors import ArtefactError, VerificationError
from drc_deploy.export.compare.agreement import NOTES, REQUIRED_PSNR_DB, Agreement, to_uint8
from drc_deploy.export.compare.reference import pixel_network, reference_outputs
from drc_deploy.export.compare.samples import check_batches, tile_batch
from drc_deploy.export.compare.widening import open_for_check
from drc_deploy.files import sha256_of
from drc_deploy.models.network import SRNetwork
from drc_deploy.runtime.backends.contract import Backend, Pixels
from drc_deploy.runtime.backends.open import open_backend

UNKNOWN_PRECISION: Precision = "fp16"
"""A plan without a sidecar must reach what this precision must: its own is not known."""


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """How an engine compares with torch in float32, on real images."""

    engine: str
    checkpoint: str
    device: str
    """Device that ran the engine."""
    precision: Precision
    """That the engine claims; ``UNKNOWN_PRECISION`` where it claims none."""
    io_dtype: IoDtype
    """Of the engine's pixels; torch's are rounded where it is uint8."""
    shapes: tuple[tuple[int, ...], ...]
    """(N, H, W, 3) of each batch."""
    required_psnr_db: float
    psnr_db: float | None
    """Lowest over the batches, between the images as the engine gives them; None when some samples are not numbers."""
    max_difference: float | None
    """In grey levels; None as above."""
    differing_share: float
    """Share of samples that differ by one or more after rounding to 8 bits."""
    nan_samples: int
    """Samples of the engine that are NaN or infinite."""
    saturated_share: float
    """Share of the engine's samples at 0 or 255."""
    reference_saturated_share: float
    """The same of torch's."""
    notes: tuple[str, ...]

    def require(self) -> None:
        """Apply the gate of the engine's precision.

        Raises:
            VerificationError: the engine is further from torch than that allows.
        """
        if self.psnr_db is not None and self.psnr_db >= self.required_psnr_db:
            return
        found = f"a PSNR of {self.psnr_db:.1f} dB" if self.psnr_db is not None else f"{self.nan_samples} NaN samples"
        raise VerificationError(
            f"{self.engine} does not compute what {self.checkpoint} does: {found}, needed are "
            f"{self.required_psnr_db:.0f} dB.",
            "Export it again on this machine, from that checkpoint; if that fails too, with --precision fp32.",
        )


def check_engine(engine: Path, checkpoint: Path | None, workdir: Path) -> EngineCheck:
    """Run real images through ``engine`` and through torch in float32, and compare.

    Args:
        engine: an ``.onnx`` or ``.plan`` file.
        checkpoint: what it was exported from; None to look for it by its SHA-256.
        workdir: where to look, before the checkpoints that ship with the package.

    Raises:
        ArtefactError: a file cannot be used, the checkpoint is not found, or it is of another scale.
        MissingDependencyError: this machine cannot run the engine.
        VerificationError: the checkpoint gives NaN by itself.
    """
    with _open(engine) as backend:
        info = backend.info
        source = checkpoint or find_checkpoint(info, engine, workdir)
        network = load_checkpoint(source).build_network()
        if network.scale != info.scale:
            raise ArtefactError(
                f"{source} upscales by {network.scale} and {engine} by {info.scale}.",
                "Give the checkpoint that the engine was exported from.",
            )
        batches = _batches(info)
        outputs = [backend.run(batch.astype(info.io_dtype)) for batch in batches]
        device = backend.device
    precision = info.precision if info.checkpoint_sha256 else UNKNOWN_PRECISION
    return EngineCheck(
        engine=str(engine),
        checkpoint=str(source),
        device=device,
        precision=precision,
        io_dtype=info.io_dtype,
        shapes=tuple(batch.shape for batch in batches),
        required_psnr_db=REQUIRED_PSNR_DB[precision],
        notes=tuple(_notes(info, engine, source)),
        **_compare(network, info, batches, outputs),  # type: ignore[arg-type]
    )


def _open(engine: Path) -> AbstractContextManager[Backend]:
    if engine.suffix not in {".onnx", ".plan"}:
        raise ArtefactError(
            f"{engine} is not an exported engine.", "Give an .onnx or .plan file that `drc-deploy export` wrote."
        )
    return open_for_check(engine) if engine.suffix == ".onnx" else open_backend(engine)


def find_checkpoint(info: EngineInfo, engine: Path, workdir: Path) -> Path:
    """Find the checkpoint of an engine by its SHA-256, in ``workdir`` and among the shipped ones.

    Raises:
        ArtefactError: it is in neither.
    """
    hint = "Give it with --checkpoint, or its folder with --workdir."
    if not info.checkpoint_sha256:
        raise ArtefactError(f"{engine} does not say which checkpoint it was exported from.", hint)
    path = locate.checkpoint_of_sha256(info.checkpoint_sha256, workdir)
    if path is not None:
        return path
    raise ArtefactError(
        f"the checkpoint of {engine} (SHA-256 {info.checkpoint_sha256[:12]}...) is neither in {workdir} nor among the "
        "shipped ones.",
        hint,
    )


def _batches(info: EngineInfo) -> list[NDArray[np.uint8]]:
    if info.tile is None:
        return check_batches(info)
    return [tile_batch(min(2, info.max_batch), *info.tile)]


def _notes(info: EngineInfo, engine: Path, source: Path) -> Iterator[str]:
    if not info.checkpoint_sha256:
        yield f"The plan has no sidecar: it is held to what {UNKNOWN_PRECISION} must reach."
    elif sha256_of(source) != info.checkpoint_sha256:
        yield f"{source} is not the file that the engine was exported from: its SHA-256 is another."
    if engine.suffix == ".onnx" and NOTES[info.precision]:
        yield NOTES[info.precision]


def _compare(
    network: SRNetwork, info: EngineInfo, batches: list[NDArray[np.uint8]], outputs: list[Pixels]
) -> dict[str, float | int | None]:
    references = reference_outputs(pixel_network(network), batches)
    rounded = [to_uint8(reference) for reference in references]
    nan_samples = sum(int(np.count_nonzero(~np.isfinite(output))) for output in outputs)
    # A sample that is no number counts as black where 8-bit samples are compared.
    numbers = [np.nan_to_num(output, nan=0, posinf=0, neginf=0) for output in outputs]
    found = Agreement.between(rounded if info.io_dtype == "uint8" else references, numbers)
    bytes_ = Agreement.between(rounded, [to_uint8(output) for output in numbers])
    return {
        "psnr_db": None if nan_samples else found.psnr_db,
        "max_difference": None if nan_samples else found.max_difference,
        "differing_share": bytes_.differing_share,
        "nan_samples": nan_samples,
        "saturated_share": bytes_.saturated_share,
        "reference_saturated_share": Agreement.between(rounded, rounded).saturated_share,
    }
