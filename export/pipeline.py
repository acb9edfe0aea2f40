"""The whole export: checkpoint, graph, files, check, plan; then, and only then, publication."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.engine_info import EXACT_SUFFIX, FLOAT_SUFFIX, EngineInfo, IoDtype, PlanSidecar, sidecar_path
from drc_deploy.export.exact import write_exact
from drc_deploy.export.graph import trace_graph
from drc_deploy.export.plan_export import PlanBuilder, PlanJob
from drc_deploy.export.request import ExportRequest
from drc_deploy.export.simplify import simplify_graph
from drc_deploy.export.sparing import PrecisionChoice, choose_precision
from drc_deploy.export.staging import publish, staging_folder
from drc_deploy.export.variants import make_variant, read_onnx_info
from drc_deploy.export.verification import Verification, verify_onnx
from drc_deploy.export.widening import open_for_check
from drc_deploy.files import sha256_of, write_bytes
from drc_deploy.models.network import SRNetwork
from drc_deploy.progress import progress
from drc_deploy.runtime.memory_probe import measure_bytes_per_pixel


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote."""

    onnx: Path
    """The uint8 variant, for ordinary images."""
    float_onnx: Path
    """The float32 variant, for 16-bit images."""
    exact_onnx: Path | None
    """The variant for ``upscale --exact``; None when it was not asked for."""
    plan: Path | None
    """None when no plan was asked for."""
    info: EngineInfo
    """What the uint8 ONNX says about itself."""
    sidecar: PlanSidecar | None
    """What the plan's sidecar says."""
    verification: dict[str, Any]
    """The fields of ``Verification``, the engine's included when it could run."""
    plan_history: str
    """Whether the plan was built or kept, and why; empty without one."""


def export_checkpoint(request: ExportRequest) -> ExportResult:
    """Write the files of ``request``, checked on real images. When anything fails, the old files stay.

    Raises:
        MissingDependencyError: a TensorRT library or a GPU is missing.
        ArtefactError: the checkpoint cannot be used, or a library refuses the graph.
        VerificationError: an exported file does not compute what torch computes.
        OutputError: the folder is not writable or the disk is full.
    """
    builder = PlanBuilder.find(request.builder) if request.builder else None
    network = load_checkpoint(request.checkpoint).build_network()
    choice = choose_precision(network, request.precision, request.max_batch)
    info = _describe(request, network)
    graph_precision = builder.graph_precision(choice) if builder else request.precision
    onnx_info = dataclasses.replace(info, precision=graph_precision, tile=request.tile.onnx)
    with staging_folder(request.folder) as staging:
        files: dict[IoDtype, Path] = {
            "uint8": staging / f"{request.stem}.onnx",
            "float32": staging / f"{request.stem}{FLOAT_SUFFIX}",
        }
        exact = staging / f"{request.stem}{EXACT_SUFFIX}" if request.exact else None
        in_place = request.folder / files["uint8"].name
        checked, onnx_info = _write_onnx(onnx_info, network, files, choice, exact, in_place)
        finished, made = [*files.values(), *([exact] if exact else [])], None
        if builder is not None:
            plan = files["uint8"].with_suffix(".plan")
            job = PlanJob(info, request.folder / plan.name, request.workspace_mib)
            made = builder.write(files["uint8"], job, network, checked)
            finished += [plan, sidecar_path(plan)]
        published = {path.name: path for path in publish(finished, request.folder)}
    return ExportResult(
        onnx=published[files["uint8"].name],
        float_onnx=published[files["float32"].name],
        exact_onnx=published[exact.name] if exact else None,
        plan=published.get(f"{request.stem}.plan"),
        info=onnx_info,
        sidecar=made.sidecar if made else None,
        verification=made.sidecar.verification if made else dataclasses.asdict(checked),
        plan_history=made.history if made else "",
    )


def _describe(request: ExportRequest, network: SRNetwork) -> EngineInfo:
    """Describe the plan; the ONNX files differ in tile, element type and, for TensorRT 8, precision."""
    return EngineInfo(
        model=network.spec.name,
        scale=network.scale,
        precision=request.precision,
        io_dtype="uint8",
        tile=request.tile.plan,
        max_batch=request.max_batch,
        receptive_field=network.receptive_field,
        global_operations=network.global_operations,
        params=network.parameter_count,
        widths=network.widths,
        checkpoint_sha256=sha256_of(request.checkpoint),
    )


def _write_onnx(
    info: EngineInfo,
    network: SRNetwork,
    files: Mapping[IoDtype, Path],
    choice: PrecisionChoice,
    exact: Path | None,
    in_place: Path,
) -> tuple[Verification, EngineInfo]:
    """Trace, write all variants and check them; give ``info`` with the memory that they take."""
    with progress("Exporting to ONNX", 4) as bar:
        body = trace_graph(choice.lower(network, info.precision), info.precision)
        simplify_graph(body)
        bar.advance(1, "checking against torch")
        # Checked while they still take any size: a fixed tile only declares other shapes for the same graph.
        for io_dtype, path in files.items():
            free = dataclasses.replace(info, io_dtype=io_dtype, tile=None)
            write_bytes(path, make_variant(body, free).SerializeToString())
        checked = verify_onnx(network, files, choice, info.max_batch)
        bar.advance(1, "measuring memory")
        info = dataclasses.replace(info, cpu_bytes_per_pixel=_memory(files["uint8"], info, in_place=in_place))
        if exact:
            measure = partial(_memory, in_place=in_place.with_suffix(EXACT_SUFFIX))
            write_exact(body, info, exact, files["float32"], measure)
        bar.advance(1, "writing")
        for io_dtype, path in files.items():
            write_bytes(path, make_variant(body, dataclasses.replace(info, io_dtype=io_dtype)).SerializeToString())
            with open_for_check(path):
                pass  # ONNX Runtime accepts the file that is kept
        bar.advance(1, "done")
    return checked, info


def _memory(path: Path, info: EngineInfo, *, in_place: Path) -> int | None:
    """Measure what a pixel takes, or take it over from the file that is replaced: an export again gives equal files."""
    earlier = read_onnx_info(in_place)
    if earlier and dataclasses.replace(earlier, cpu_bytes_per_pixel=None) == info:
        return earlier.cpu_bytes_per_pixel
    return measure_bytes_per_pixel(path)
