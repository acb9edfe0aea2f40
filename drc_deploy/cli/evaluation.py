"""What ``drc-deploy eval`` does: one way of upscaling, one folder of pairs, PSNR and SSIM of every image."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from drc_deploy import metrics
from drc_deploy.bench.measure import quality
from drc_deploy.bench.measure.quality import ImageQuality, Quality, Upscale
from drc_deploy.bench.show.console import table_text
from drc_deploy.bench.show.figures import decibels
from drc_deploy.engine_info import Precision
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.images.blur import Blur, find_blurs
from drc_deploy.locate import find_engine
from drc_deploy.pairs import find_pairs
from drc_deploy.printing import say
from drc_deploy.progress import progress
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.companions import parts_opener
from drc_deploy.runtime.tiling.tiles import WHOLE_IMAGE_TILE_PX
from drc_deploy.runtime.upscaler import Upscaler

BICUBIC = "bicubic"
BICUBIC_SCALE = 4


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to evaluate, and how."""

    model: str
    """``bicubic``, a shipped name, or a checkpoint, ONNX or plan."""
    data: Path
    lr_folder: str | None
    """Folder of LR images inside ``data``; None means ``LRx`` and the scale."""
    scale: int | None
    """None means the scale of the network, or 4 for bicubic."""
    workdir: Path
    threads: int | None = None
    tile: int | None = None
    overlap: int | None = None
    precision: Precision | None = None
    """In which a checkpoint is computed; None: fp32."""


@dataclass(frozen=True, slots=True)
class EvaluatedImage(ImageQuality):
    """Scores of one image, with those that only ``drc-deploy eval`` has."""

    psnr_rgb: float | None
    """Over all channels, in dB; None as in ``psnr_y``."""
    kernel_error: float | None
    """Share of the blur that a blind network puts elsewhere (see ``kernel_error``); None where no truth is known."""


@dataclass(frozen=True, slots=True)
class Evaluation(Quality):
    """The result of ``drc-deploy eval``."""

    rows: tuple[EvaluatedImage, ...]
    psnr_rgb: float | None
    """Mean over the images in dB; None when one of them is infinite."""
    kernel_error: float | None
    """Mean over the images; None where it is not known."""
    model: str
    data: str
    lr_folder: str
    scale: int
    device: str


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Score every pair of ``options.data``.

    Raises:
        DrcDeployError: the model or a pair cannot be used, or they do not belong together.
    """
    with ExitStack() as stack:
        upscale, scale, device = _open(options, stack)
        lr_folder = options.lr_folder or f"LRx{scale}"
        sources = find_pairs(options.data, lr_folder, scale)
        usual = lr_folder == f"LRx{scale}"  # kernels are of these images
        blind = upscale if usual and isinstance(upscale, Upscaler) and upscale.info.kernel_size else None
        blurs = find_blurs(options.data, scale, [source.name for source in sources]) if blind else None
        if blind and blurs and not _finds_kernels(blind):
            blurs = None
        rows = []
        with progress(f"{options.model} on {options.data.name}", len(sources)) as bar:
            for pair, result in quality.upscaled_pairs(upscale, sources, scale):
                scored, rgb = quality.score_pair(pair, result, scale), metrics.psnr_rgb(pair.hr, result, scale)
                error = _kernel_error(blind, pair.lr, blurs[pair.name]) if blind and blurs else None
                rows.append(EvaluatedImage(scored.image, scored.psnr_y, scored.ssim_y, rgb, error))
                bar.advance(note=pair.name)
    found = quality.summarise(rows)
    return Evaluation(
        psnr_y=found.psnr_y,
        ssim_y=found.ssim_y,
        psnr_rgb=metrics.mean_psnr([row.psnr_rgb for row in rows]),
        kernel_error=float(np.mean([row.kernel_error for row in rows])) if blurs else None,
        images=found.images,
        rows=tuple(rows),
        model=options.model,
        data=str(options.data),
        lr_folder=lr_folder,
        scale=scale,
        device=device,
    )


def evaluation_table(evaluation: Evaluation) -> str:
    """Return a row per image and the mean."""
    table = Table(title=f"{evaluation.model} x{evaluation.scale} on {evaluation.data} ({evaluation.lr_folder})")
    table.add_column("image")
    table.add_column("PSNR-Y dB", justify="right")
    table.add_column("SSIM-Y", justify="right")
    table.add_column("PSNR-RGB dB", justify="right")
    if evaluation.kernel_error is not None:
        table.add_column("kernel error", justify="right")
    for row in evaluation.rows:
        table.add_row(row.image, *_cells(row))
    table.add_section()
    table.add_row(f"mean of {evaluation.images}", *_cells(evaluation))
    return table_text(table)


def _cells(scores: EvaluatedImage | Evaluation) -> list[str]:
    cells = [decibels(scores.psnr_y), f"{scores.ssim_y:.4f}", decibels(scores.psnr_rgb)]
    return cells if scores.kernel_error is None else [*cells, f"{scores.kernel_error:.3f}"]


def _finds_kernels(blind: Upscaler) -> bool:
    """Return whether a blind network can be asked for kernels: an exported one needs its parts for that."""
    try:
        blind.networks.with_kernels()
    except ArtefactError as error:
        say(f"Kernels are not compared: {error.message} {error.hint}", err=True)
        return False
    return True


def _kernel_error(blind: Upscaler, lr: metrics.UInt8Image, blur: Blur) -> float:
    estimate = blind.kernel(lr)
    assert estimate is not None
    return metrics.kernel_error(estimate, blur.as_lr_kernel(len(estimate)))


def _open(options: EvaluationOptions, stack: ExitStack) -> tuple[Upscale, int, str]:
    """Return the way of upscaling, its scale, and what computes it."""
    if options.model == BICUBIC:
        if options.precision is not None:
            raise UsageError("bicubic has no precision to choose.", "Leave out --precision.")
        scale = options.scale or BICUBIC_SCALE
        return quality.upscale_bicubic(scale), scale, "NumPy"
    engine = find_engine(options.model, options.workdir)
    backend = stack.enter_context(open_backend(engine, threads=options.threads, precision=options.precision))
    scale = backend.info.scale
    if options.scale not in (None, scale):
        raise UsageError(f"{options.model} upscales by {scale}, not by {options.scale}.", "Leave --scale out.")
    any_size = backend.info.tile is None
    tile = WHOLE_IMAGE_TILE_PX if any_size and options.tile is None else options.tile
    parts = parts_opener(engine, backend, options.threads)
    return Upscaler(backend, tile=tile, overlap=options.overlap, open_parts=parts), scale, backend.device
