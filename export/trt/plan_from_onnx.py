"""A plan from an ONNX file that was exported elsewhere: on a Jetson, which has TensorRT and no torch."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from drc_deploy.engine_info import (
    EngineInfo,
    PlanSidecar,
    Precision,
    blind_parts,
    is_own_engine,
    read_onnx_info,
    sidecar_path,
)
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest, sizes_for
from drc_deploy.export.staging import move_into_place, staging_folder
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.plan_export import PlanBuilder
from drc_deploy.export.verify.onnx_check import verify_against_onnx
from drc_deploy.files import only_maker
from drc_deploy.onnx_metadata import check_plain_graph


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The plan built from an ONNX file."""

    onnx: Path
    plan: Path
    plan_history: str
    """Whether the plan was built or kept, and why."""
    sidecar: PlanSidecar
    parts: tuple[Path, ...] = ()
    """Plans of the parts of a blind network, where they lie next to the ONNX file."""
    triton: Path | None = None
    """The model for Triton; None when none was asked for."""


def build_from_onnx(request: ExportRequest) -> PlanResult:
    """Build a plan next to the ONNX file ``request.checkpoint``, and the model of it for Triton that is asked for.

    When anything fails, the old plan and the old model stay.

    Raises:
        UsageError: the request asks for what the file is not.
        MissingDependencyError: a TensorRT library, a GPU or an option of theirs is missing.
        ArtefactError: the file is not the uint8 variant of an export, or the library refuses it.
        VerificationError: the plan does not compute what the file computes.
        OutputError: the folder is not writable or the disk is full.
    """
    onnx_file = request.checkpoint
    if request.builder is None or request.exact:
        raise UsageError(
            f"{onnx_file} is exported already: only a plan can be made of it.", "Give --trt, and no --exact."
        )
    info = read_exported_info(onnx_file)
    tile = _plan_tile(request, info, onnx_file)
    builder = PlanBuilder.find(request.builder, request)
    _require_precision(builder.library, info, request.precision, onnx_file)
    with only_maker(request.folder / f"{request.stem}.onnx"), request.kept_for_triton():
        result = _build(request, builder, info, tile)
        if request.triton is None:
            return result
        request.triton.write(onnx_file, result.plan)
        return dataclasses.replace(result, triton=request.triton.path)


def _build(request: ExportRequest, builder: PlanBuilder, info: EngineInfo, tile: tuple[int, int] | None) -> PlanResult:
    onnx_file = request.checkpoint
    with staging_folder(request.folder) as staging:
        plan = staging / f"{request.stem}.plan"
        most = min(request.max_batch, info.max_batch) if info.tile else request.max_batch
        of_plan = dataclasses.replace(info, precision=request.precision, tile=tile, max_batch=most)

        def write(source: Path, made: Path) -> tuple[PlanSidecar, str]:
            described = of_plan if source == onnx_file else dataclasses.replace(of_plan, io_dtype="float32")
            return builder.write(source, made, described, request, partial(_check, source, request.precision))

        sidecar, history = write(onnx_file, plan)
        made = [plan]
        for part, of_part in zip(_parts(onnx_file, info), blind_parts(plan), strict=False):
            made.append(of_part)
            write(part, of_part)
        files = move_into_place([file for each in made for file in (each, sidecar_path(each))], request.folder)
    return PlanResult(onnx_file, files[0], history, sidecar, tuple(files[2::2]))


def _check(onnx_file: Path, precision: Precision, made: Path) -> dict[str, Any]:
    return dataclasses.asdict(verify_against_onnx(made, onnx_file, precision))


def _parts(onnx_file: Path, info: EngineInfo) -> tuple[Path, ...]:
    """Return the parts of a blind network, the estimator first; none where they are not both there.

    Raises:
        ArtefactError: they are of another export.
    """
    parts = blind_parts(onnx_file)
    if info.kernel_size is None or not all(part.is_file() for part in parts):
        return ()
    for part in parts:
        other = read_onnx_info(part)
        if (other.checkpoint_sha256, other.precision) != (info.checkpoint_sha256, info.precision):
            raise ArtefactError(f"{part} is of another export than {onnx_file}.", "Copy all files of one export.")
    return parts


def read_exported_info(onnx_file: Path) -> EngineInfo:
    """Read the metadata of an ONNX file, without the onnx package.

    Raises:
        ArtefactError: it is not the uint8 variant that ``drc-deploy export`` writes.
    """
    check_plain_graph(onnx_file)
    info = read_onnx_info(onnx_file)
    if info.io_dtype != "uint8" or not is_own_engine(onnx_file):
        raise ArtefactError(
            f"{onnx_file} serves 16-bit images, exact tiles or blur kernels, and is no network by itself.",
            "Give NAME.onnx of the same export.",
        )
    return info


def _plan_tile(request: ExportRequest, info: EngineInfo, onnx_file: Path) -> tuple[int, int] | None:
    """Return the tile of the plan: the file's own where it has one, else the tile of the request."""
    if info.tile is None:
        return sizes_for(request.tile, info.multiple_of, info.minimum).plan
    if request.tile != DEFAULT_TILE and request.tile.plan != info.tile:
        size = "x".join(map(str, info.tile))
        raise UsageError(
            f"{onnx_file} was exported for tiles of {size}.",
            "Leave out --tile, or export it without one where the checkpoint is.",
        )
    return info.tile


def _require_precision(library: Library, info: EngineInfo, precision: Precision, onnx_file: Path) -> None:
    """Check that the file has the precision that ``library`` builds a plan of ``precision`` from."""
    if info.int8_form == "cpu":
        raise ArtefactError(
            f"{onnx_file} is INT8 for ONNX Runtime, which TensorRT does not read.",
            "Export the checkpoint with `drc-deploy export CHECKPOINT --trt int8`: its ONNX is for TensorRT.",
        )
    needed = library.graph_precision(precision)
    if info.precision != needed:
        raise ArtefactError(
            f"{onnx_file} is in {info.precision}, and {library.name} {library.version} builds {precision} plans from "
            f"graphs in {needed}.",
            f"Run `drc-deploy export CHECKPOINT --precision {needed}` where that is, and copy the ONNX files.",
        )
