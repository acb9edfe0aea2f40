"""``drc-deploy export``: a checkpoint as ONNX and, if asked, as a TensorRT plan; or a plan of such an ONNX."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from drc_deploy import locate
from drc_deploy.cli import options
from drc_deploy.engine_info import (
    EXACT_SUFFIX,
    FLOAT_SUFFIX,
    KERNEL_SUFFIX,
    RESTORER_SUFFIX,
    PlanOptions,
    PlanSidecar,
    Precision,
    sidecar_path,
)
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.export.request import BUILDER_CHOICES, BuilderChoice, ExportRequest, parse_tile, require_packages
from drc_deploy.export.triton.model_folder import ModelFolder
from drc_deploy.printing import say

if TYPE_CHECKING:
    from drc_deploy.export.export_checkpoint import ExportResult
    from drc_deploy.export.trt.plan_from_onnx import PlanResult

_OF_A_COPY = {"checkpoint", "stem", "triton", "overwrite", "workdir", "as_json"}
"""Parameters that leave an exported file as it is."""
_GIVEN = click.core.ParameterSource.COMMANDLINE
_NAMED_LAYERS = 8
"""Layers that fell back to the GPU and are named on the terminal; the sidecar has all."""


@click.command("export")
@click.argument("checkpoint", required=False)
@click.option("--precision", type=click.Choice(get_args(Precision)), help="Precision of the network.  [default: fp32]")
@click.option("--trt", type=click.Choice(get_args(Precision)), help="Build a TensorRT plan too, in this precision.")
@click.option(
    "--tile",
    metavar="N|HxW|dynamic",
    help="Size of the input.  [default: any size for the ONNX, 128x128 for the plan]",
)
@click.option("--max-batch", type=int, default=4, show_default=True, help="Largest number of tiles in one call.")
@click.option("-o", "--output", "stem", help="Name of the files, without suffix.  [default: that of the checkpoint]")
@click.option(
    "--builder",
    type=click.Choice(BUILDER_CHOICES),
    default="auto",
    show_default=True,
    help="Library that builds the plan; auto takes tensorrt on a GPU, else tensorrt_rtx.",
)
@click.option(
    "--workspace",
    "workspace_mib",
    metavar="MIB",
    type=int,
    help="Largest scratch memory of the plan's build, in MiB.  [default: 2048; no limit for tensorrt_rtx]",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Images like those to be upscaled; int8 takes its ranges from them.  [default: shipped photographs]",
)
@click.option("--version-compatible", is_flag=True, help="Build a plan that later versions of TensorRT run too.")
@click.option(
    "--hardware-compatible", is_flag=True, help="Build a plan for every GPU from Ampere on; it may be slower."
)
@click.option(
    "--dla",
    "dla_core",
    metavar="CORE",
    type=click.IntRange(min=0),
    help="Use this DLA of a Jetson for the layers that it can run.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Also write NAME.exact.onnx and, with a plan, NAME.exact.plan, which `upscale --exact` runs.",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write the network, or its plan, as the model DIR/NAME for NVIDIA's Triton server.",
)
@click.option("--overwrite", is_flag=True, help="Replace DIR/NAME of an earlier --triton.")
@options.workdir_option
@options.json_option
def command(checkpoint: str | None, workdir: Path, as_json: bool, **choices: Any) -> None:
    """Write CHECKPOINT as ONNX files for 8-bit and 16-bit images, and check them against torch.

    CHECKPOINT is a file or a shipped name. Without it, the newest checkpoint in the work folder is taken. It may also
    be an exported .onnx file: then --trt builds the plan and --triton takes the file, without torch, as on a Jetson.
    """
    source = _find_source(checkpoint, workdir)
    if source.suffix == ".onnx":
        _from_onnx(_request(source, source.parent, **choices), as_json=as_json)
        return
    request = _request(source, workdir, **choices)
    if checkpoint is None:
        say(f"Exporting {source}, the newest checkpoint in {workdir}.", err=True)

    require_packages()
    suffixes = (".onnx", FLOAT_SUFFIX, KERNEL_SUFFIX, RESTORER_SUFFIX, *([EXACT_SUFFIX] if request.exact else []))
    options.announce_results(*(workdir / f"{request.stem}{suffix}" for suffix in suffixes), workdir=workdir)
    from drc_deploy.export.export_checkpoint import export_checkpoint

    result = export_checkpoint(request)
    options.emit({"checkpoint": str(source)} | _report(result), as_json=as_json, text=_text(result))


def _from_onnx(request: ExportRequest, *, as_json: bool) -> None:
    """Make what can be made of an ONNX file that was exported earlier.

    Raises:
        UsageError: nothing of that is asked for, or something else.
    """
    if request.triton is None or request.builder:
        from drc_deploy.export.trt.plan_from_onnx import build_from_onnx

        built = build_from_onnx(request)
        options.emit(_report(built), as_json=as_json, text=plan_text(built))
        return
    from drc_deploy.export.triton.from_onnx import model_from_onnx

    _check_is_copied()
    model_from_onnx(request.checkpoint, request.triton)
    made = {"onnx": str(request.checkpoint), "triton": str(request.triton.path)}
    options.emit(made, as_json=as_json, text=_triton_line(request.triton.path))


def _check_is_copied() -> None:
    """Refuse options that would change an exported file.

    Raises:
        UsageError: one was given.
    """
    context = click.get_current_context()
    given = [
        option.opts[-1]
        for option in context.command.params
        if option.name not in _OF_A_COPY and context.get_parameter_source(option.name or "") is _GIVEN
    ]
    if given:
        raise UsageError(
            f"the file is exported already, and {' and '.join(given)} would change it.",
            f"Leave out {' and '.join(given)}, or export the checkpoint.",
        )


def _find_source(reference: str | None, workdir: Path) -> Path:
    if reference is None:
        return newest_checkpoint(workdir)
    if reference.endswith(".onnx"):
        return locate.find_engine(reference, workdir)
    return locate.find_checkpoint(reference, workdir)


def newest_checkpoint(workdir: Path) -> Path:
    """Return the checkpoint in ``workdir`` that was written last.

    Raises:
        ArtefactError: there is none.
    """
    # Hidden ones are files that a killed process was writing.
    found = [path for path in workdir.glob("*.safetensors") if not path.name.startswith(".")]
    if not found:
        raise ArtefactError(
            f"there is no checkpoint in {workdir}.",
            f"Name one ({', '.join(locate.shipped_names()) or 'a .safetensors file'}), "
            "or make one with `drc-deploy compress` or `drc-deploy train`.",
        )
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _request(
    source: Path,
    workdir: Path,
    *,
    precision: Precision | None,
    trt: Precision | None,
    tile: str | None,
    stem: str | None,
    builder: BuilderChoice,
    version_compatible: bool,
    hardware_compatible: bool,
    dla_core: int | None,
    triton: Path | None,
    overwrite: bool,
    **same: Any,
) -> ExportRequest:
    """Turn the options into a request.

    Raises:
        UsageError: options that contradict each other or are impossible.
    """
    if trt and precision and trt != precision:
        raise UsageError(
            f"--precision {precision} and --trt {trt} contradict each other: the plan is built from the ONNX.",
            "Give --trt alone.",
        )
    if builder != "auto" and not trt:
        raise UsageError("--builder is for the build of a plan, and none was asked for.", "Give --trt as well.")
    if overwrite and not triton:
        raise UsageError("--overwrite is for --triton; other files are always replaced.", "Leave it out.")
    name = source.stem if stem is None else stem
    return ExportRequest(
        checkpoint=source,
        folder=workdir,
        stem=name,
        precision=trt or precision or "fp32",
        tile=parse_tile(tile),
        builder=builder if trt else None,
        options=PlanOptions(version_compatible, hardware_compatible, dla_core),
        triton=ModelFolder(triton / name, overwrite) if triton else None,
        **same,
    )


def _report(result: "ExportResult | PlanResult") -> dict[str, Any]:
    fields = {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(result).items()
    }
    return {**fields, "parts": [str(part) for part in fields.get("parts", ())]}


def _part_lines(parts: Sequence[Path]) -> list[str]:
    uses = ("estimates the blur of an image", "is given the blur, for all tiles of an image")
    return [f"{part}  {use}" for part, use in zip(parts, uses, strict=False)]


def _triton_line(model: Path) -> str:
    return f"{model}  a model for Triton, in the repository {model.parent}"


def _text(result: "ExportResult") -> str:
    checks = result.verification
    lines = [
        f"{result.onnx}  uint8 pixels, {result.info.precision}",
        f"{result.float_onnx}  float32 pixels, for 16-bit images",
        *(["They take one tile at a time."] if result.info.tile and result.info.max_batch == 1 else []),
        *([f"{result.exact_onnx}  for upscale --exact"] if result.exact_onnx else []),
        *_part_lines(result.parts[:2]),
        f"Checked on {sum(shape[0] for shape in checks['shapes'])} crops of the shipped photographs, against torch in "
        "float32:",
        f"  float32 output: {checks['onnx_float']['psnr_db']:.1f} dB PSNR (needed {checks['required_psnr_db']:.0f})",
        f"  8-bit output:   {checks['onnx_uint8']['psnr_db']:.1f} dB PSNR, "
        f"{checks['onnx_uint8']['differing_share']:.2%} of samples differ, by "
        f"{checks['onnx_uint8']['max_difference']:.0f} at most",
    ]
    if rounded := checks["rounded"]:
        lines.append(f"With the result of every operation rounded as on a GPU: {rounded['psnr_db']:.1f} dB PSNR.")
    if cost := checks["int8"]:
        lines.append(_int8_text(cost))
    lines += [f"Stays in float32: {spared['layer']}, {spared['reason']}." for spared in checks["spared_layers"]]
    if result.plan and result.sidecar:
        lines += plan_lines(result.plan, result.sidecar, result.plan_history)
    if result.exact_plan:
        lines.append(f"{result.exact_plan}  for upscale --exact")
    lines += _part_lines(result.parts[2:])
    lines += [_triton_line(result.triton)] if result.triton else []
    if checks["note"]:
        lines.append(f"Note: {checks['note']}")
    runs_here: Path | None = result.onnx
    if result.info.precision == "bf16" or (result.info.precision == "int8" and result.plan):
        runs_here = result.plan
    if runs_here:
        lines.append(f"Next: drc-deploy upscale IMAGE --engine {runs_here}")
    if not result.plan:
        lines.append(way_to_plan(result.onnx.name, result.info.precision))
    return "\n".join(lines)


def _int8_text(cost: dict[str, Any]) -> str:
    loss = cost["float32_psnr_y_db"] - cost["int8_psnr_y_db"]
    return (
        f"In INT8: {cost['convolutions']} of {cost['eligible']} convolutions. On photographs held out of the "
        f"calibration: {cost['psnr_db']:.1f} dB PSNR to float32; to the originals {cost['int8_psnr_y_db']:.2f} dB, "
        f"where float32 has {cost['float32_psnr_y_db']:.2f}: a loss of {loss:.2f} dB."
    )


def plan_lines(plan: Path, sidecar: PlanSidecar, history: str) -> list[str]:
    """Return lines about a plan: its builder, whether it was built now, and which layers run where."""
    return [
        f"{plan}  {sidecar.builder} {sidecar.builder_version}, layers: {sidecar.layers_by_precision} "
        f"(according to the {sidecar.precision_source})",
        history,
        *_placement(plan, sidecar),
    ]


def _placement(plan: Path, sidecar: PlanSidecar) -> list[str]:
    if sidecar.dla is None:
        return []
    on_dla, on_gpu, parts = sidecar.dla.on_dla, sidecar.dla.on_gpu, sidecar.dla.in_engine
    named = ", ".join(on_gpu[:_NAMED_LAYERS])
    more = f" and {len(on_gpu) - _NAMED_LAYERS} more" if len(on_gpu) > _NAMED_LAYERS else ""
    fallen_back = f"On the GPU: {named}{more} (all in {sidecar_path(plan).name})." if on_gpu else "None on the GPU."
    listed = f"parts of the engine: {len(parts)}" if parts else "the engine does not list its parts"
    return [
        f"DLA core {sidecar.options.dla_core}: {len(on_dla)} of {len(on_dla) + len(on_gpu)} layers ({listed}).",
        fallen_back,
    ]


def way_to_plan(onnx: str, precision: Precision) -> str:
    """Return how to build a plan of an exported file on another machine."""
    if precision == "int8":
        return "A plan in INT8 needs another graph: drc-deploy export CHECKPOINT --trt int8"
    # Only TensorRT 8 needs another file: it chooses precisions itself, from a graph in fp32.
    of_tensorrt_8 = {
        "fp32": " (or --trt fp16, with TensorRT 8 of JetPack 6.0)",
        "fp16": " (with TensorRT 8 of JetPack 6.0: of a file in fp32)",
        "bf16": " (not with TensorRT 8 of JetPack 6.0)",
    }
    return f"A plan, where TensorRT is: drc-deploy export {onnx} --trt {precision}{of_tensorrt_8.get(precision, '')}"


def plan_text(result: "PlanResult") -> str:
    """Return the lines of a plan that was built of an ONNX file."""
    checks = result.sidecar.verification
    text = plan_lines(result.plan, result.sidecar, result.plan_history) + _part_lines(result.parts)
    text += [_triton_line(result.triton)] if result.triton else []
    if engine := checks["engine"]:
        text.append(
            f"Checked on crops of the shipped photographs, 8-bit output against {result.onnx.name} in ONNX Runtime: "
            f"{engine['psnr_db']:.1f} dB PSNR (needed {checks['required_psnr_db']:.0f}), "
            f"{engine['differing_share']:.2%} of samples differ, by {engine['max_difference']:.0f} at most."
        )
    if checks["note"]:
        text.append(f"Note: the plan is unverified. {checks['note']}")
    text.append(f"Next: drc-deploy upscale IMAGE --engine {result.plan}")
    return "\n".join(text)
