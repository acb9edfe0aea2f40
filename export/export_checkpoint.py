"""The whole export: checkpoint, graph, files, check, plan; then, and only then, publication."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from drc_deploy.checkpoint import Parent
from drc_deploy.engine_info import (
    EXACT_PLAN_SUFFIX,
    EXACT_SUFFIX,
    FLOAT_SUFFIX,
    EngineInfo,
    IoDtype,
    PlanSidecar,
    Precision,
    blind_parts,
    sidecar_path,
)
from drc_deploy.errors import UsageError
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.compare.widening import open_for_check
from drc_deploy.export.graph.blind_graphs import write_parts
from drc_deploy.export.graph.exact_graph import write_exact
from drc_deploy.export.graph.graph import simplify_graph, trace_graph
from drc_deploy.export.graph.variants import make_variant
from drc_deploy.export.precision.int8 import Int8Cost, choose_int8
from drc_deploy.export.precision.quantise import Form
from drc_deploy.export.precision.sparing import PrecisionChoice, choose_precision
from drc_deploy.export.request import LARGEST_FREE_MULTIPLE, ExportRequest, traced_sizes
from drc_deploy.export.staging import move_into_place, staging_folder
from drc_deploy.export.trt.plan_export import PlanBuilder
from drc_deploy.export.verify.verification import TENSORRT_INT8_NOTE, Verification, verify_engine, verify_onnx
from drc_deploy.files import only_maker, write_bytes
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import SRNetwork
from drc_deploy.progress import progress
from drc_deploy.runtime.tiling.memory_probe import measure_bytes_per_pixel


@dataclass(frozen=True, slots=True)
class Body:
    """A graph of float32 NHWC pixels, and how it came to be."""

    graph: onnx.ModelProto
    tile: tuple[int, int] | None
    """Height and width that it was traced for, with a batch of one; None for any."""
    precision: Precision
    """Of the graph: fp32 where the library that builds the plan lowers it by itself."""
    choice: PrecisionChoice
    int8: Int8Cost | None = None
    """Error of INT8; None in another precision."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Files of an export, and the result of its check."""

    onnx: Path
    """The uint8 variant, for ordinary images."""
    float_onnx: Path
    """The float32 variant, for 16-bit images."""
    exact_onnx: Path | None
    """The variant for ``upscale --exact``; None when it was not asked for."""
    plan: Path | None
    """None when no plan was asked for."""
    exact_plan: Path | None
    """The plan of the exact variant; None when not both were asked for."""
    parts: tuple[Path, ...]
    """Of a blind network: what estimates blur kernels, and what is given them; and, with a plan, the plans of both."""
    info: EngineInfo
    """Metadata of the uint8 ONNX."""
    sidecar: PlanSidecar | None
    """Content of the plan's sidecar."""
    verification: dict[str, Any]
    """The fields of ``Verification``, the engine's included when it could run."""
    plan_history: str
    """Whether the plan was built or kept, and why; empty without one."""
    triton: Path | None = None
    """The model for Triton; None when none was asked for."""


def export_checkpoint(request: ExportRequest) -> ExportResult:
    """Write the files of ``request``, checked on real images. When anything fails, the old files stay.

    Raises:
        MissingDependencyError: a TensorRT library or a GPU is missing.
        ArtefactError: the checkpoint cannot be used, or a library refuses the graph.
        VerificationError: an exported file does not compute what torch computes.
        OutputError: the folder is not writable, the disk is full, or another process writes these files.
    """
    with only_maker(request.folder / f"{request.stem}.onnx"), request.kept_for_triton():
        result = _export_checkpoint(request)
        if request.triton is None:
            return result
        request.triton.write(result.onnx, result.plan)
        return dataclasses.replace(result, triton=request.triton.path)


def _export_checkpoint(request: ExportRequest) -> ExportResult:
    # First, since an export takes minutes: a missing library must not show at its end.
    builder = PlanBuilder.find(request.builder, request) if request.builder else None
    parent = Parent.read(request.checkpoint)
    network = parent.checkpoint.build_network()
    _check_request(network, request)
    request = dataclasses.replace(request, tile=traced_sizes(request.tile, network.multiple_of, network.minimum))
    traced_tile = request.tile.onnx if network.multiple_of > LARGEST_FREE_MULTIPLE else None
    if traced_tile:
        request = dataclasses.replace(request, max_batch=1)
    info = _describe(request, network, parent.sha256)
    body = make_body(network, request, builder, dataclasses.replace(info, tile=traced_tile))
    info = dataclasses.replace(info, int8_form=body.int8.form if body.int8 else None)
    onnx_info = dataclasses.replace(info, precision=body.precision, tile=request.tile.onnx)
    # Everything is written to the staging folder and moved in the end, so that a failure leaves the old files whole.
    with staging_folder(request.folder) as staging:
        files: dict[IoDtype, Path] = {
            "uint8": staging / f"{request.stem}.onnx",
            "float32": staging / f"{request.stem}{FLOAT_SUFFIX}",
        }
        exact = staging / f"{request.stem}{EXACT_SUFFIX}" if request.exact else None
        blind = isinstance(network, BlindNetwork)
        parts = blind_parts(files["uint8"]) if blind else ()
        checked, onnx_info = _write_onnx(onnx_info, network, files, body, parts, exact)
        finished = [*files.values(), *([exact] if exact else []), *parts]
        sidecar, history = None, ""
        if builder is not None:
            sidecar, history = _write_plan(builder, request, files["uint8"], info, network, checked)
            plans = [files["uint8"].with_suffix(".plan")]
            for part in parts:  # the second is checked together with the first
                _write_plan(builder, request, part, dataclasses.replace(info, io_dtype="float32"), network, checked)
                plans.append(part.with_suffix(".plan"))
            if exact:
                exact_info = dataclasses.replace(info, io_dtype="float32", max_batch=1)
                _write_plan(builder, request, exact, exact_info, network, checked)
                plans.append(exact.with_suffix(".plan"))
            finished += [path for plan in plans for path in (plan, sidecar_path(plan))]
        part_suffixes = (".onnx", ".plan") if builder else (".onnx",)
        published = {path.name: path for path in move_into_place(finished, request.folder)}
    return ExportResult(
        onnx=published[files["uint8"].name],
        float_onnx=published[files["float32"].name],
        exact_onnx=published[exact.name] if exact else None,
        plan=published.get(f"{request.stem}.plan"),
        exact_plan=published.get(f"{request.stem}{EXACT_PLAN_SUFFIX}"),
        parts=tuple(published[part.with_suffix(suffix).name] for suffix in part_suffixes for part in parts),
        info=onnx_info,
        sidecar=sidecar,
        verification=sidecar.verification if sidecar else dataclasses.asdict(checked),
        plan_history=history,
    )


def _check_request(network: SRNetwork, request: ExportRequest) -> None:
    """Refuse what is not made of networks with windows, or of other programs, yet.

    Raises:
        UsageError: it is asked for.
    """
    name, windows = network.spec.name, network.multiple_of > LARGEST_FREE_MULTIPLE
    if request.exact and (network.spec.foreign or windows):
        beyond = network.global_operations or windows
        why = "looks beyond a tile in ways that --exact does not know" if beyond else "is exact in tiles as it is"
        raise UsageError(f"{name} {why}.", "Leave out --exact.")
    if request.precision == "int8" and network.multiple_of > 1:
        raise UsageError(
            f"{name} takes sides that are multiples of {network.multiple_of}; INT8 is measured on crops of any size.",
            "Give --precision fp16 or fp32.",
        )


def make_body(network: SRNetwork, request: ExportRequest, builder: PlanBuilder | None, traced: EngineInfo) -> Body:
    """Choose the precision of every layer, and make the graph.

    Args:
        network: in float32.
        request: what the user asked for.
        builder: of the plan; None for no plan.
        traced: which inputs the graph is to take.

    Raises:
        InputError: the images to calibrate on cannot be used.
        VerificationError: torch cannot export the network, the precision costs too much, or the library that builds
            the plan cannot spare single layers.
    """
    if request.precision == "int8":
        form: Form = "tensorrt" if builder else "cpu"
        choice, graph, cost = choose_int8(network, form, request.calibrate)
        precision = builder.graph_precision(choice) if builder else choice.precision
        return Body(graph, traced.tile, precision, choice, cost)
    graph = trace_graph(pixel_network(network), request.precision, traced.tile)
    simplify_graph(graph)
    choice, lowered = choose_precision(network, graph, request.precision, traced)
    precision = builder.graph_precision(choice) if builder else choice.precision
    return Body(lowered if precision == choice.precision else graph, traced.tile, precision, choice)


def _write_plan(
    builder: PlanBuilder,
    request: ExportRequest,
    onnx_file: Path,
    info: EngineInfo,
    network: SRNetwork,
    checked: Verification,
) -> tuple[PlanSidecar, str]:
    """Write the plan of an ONNX file next to it, checked as far as this machine can run it."""

    def check(plan: Path) -> dict[str, Any]:
        return dataclasses.asdict(verify_engine(checked, network, plan, info.precision))

    return builder.write(onnx_file, onnx_file.with_suffix(".plan"), info, request, check)


def _describe(request: ExportRequest, network: SRNetwork, sha256: str) -> EngineInfo:
    """Describe the plan of the checkpoint that has this hash.

    The ONNX files differ in tile, element type and, for TensorRT 8, precision.
    """
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
        checkpoint_sha256=sha256,
        multiple_of=network.multiple_of,
        minimum=network.minimum,
        kernel_size=network.kernel_size if isinstance(network, BlindNetwork) else None,
    )


def _write_onnx(
    info: EngineInfo,
    network: SRNetwork,
    files: Mapping[IoDtype, Path],
    body: Body,
    parts: Sequence[Path],
    exact: Path | None,
) -> tuple[Verification, EngineInfo]:
    """Write all variants and check them; return ``info`` with the memory that they take."""
    with progress("Exporting to ONNX", 3) as bar:
        # Checked with all sizes that they take: a fixed tile may only declare other shapes for the same graph.
        free = dataclasses.replace(info, tile=body.tile)
        for io_dtype, path in files.items():
            variant = make_variant(body.graph, dataclasses.replace(free, io_dtype=io_dtype))
            write_bytes(path, variant.SerializeToString())
        checked = verify_onnx(network, files, body.choice, free)
        if body.int8:
            note = TENSORRT_INT8_NOTE if body.int8.form == "tensorrt" else checked.note
            checked = dataclasses.replace(checked, int8=body.int8, note=note)
        bar.advance(1, "measuring memory")
        info = dataclasses.replace(info, cpu_bytes_per_pixel=measure_bytes_per_pixel(files["uint8"]))
        if parts:
            write_parts(body.graph, info, parts[0], parts[1], files["float32"])
        if exact:
            write_exact(body.graph, info, exact, files["float32"])
        bar.advance(1, "writing")
        for io_dtype, path in files.items():
            write_bytes(
                path, make_variant(body.graph, dataclasses.replace(info, io_dtype=io_dtype)).SerializeToString()
            )
            with open_for_check(path):
                pass  # ONNX Runtime accepts the file that is kept
        bar.advance(1, "done")
    return checked, info
