"""``drc-deploy info``: what is known about a file that this program made."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from drc_deploy.bench.report.conclusions import by_latency
from drc_deploy.bench.report.report_files import read_report
from drc_deploy.checkpoint_info import read_checkpoint_info, stored_types
from drc_deploy.cli import options
from drc_deploy.engine_info import METADATA_KEY, EngineInfo, read_sidecar
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import sha256_of
from drc_deploy.images.blur import find_blurs, kernel_picture, kernel_widths
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.writing import write_image
from drc_deploy.locate import find_file
from drc_deploy.metrics import kernel_error
from drc_deploy.onnx_metadata import check_plain_graph
from drc_deploy.printing import one_line
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.ort.providers import CPU, import_onnxruntime, session_options
from drc_deploy.widths import read_widths_file

Facts = dict[str, Any]
"""JSON-ready values under names for people."""

_ROUND = 1.05
"""Ratio of the axes of a kernel up to which it counts as round."""
_GAP_PX = 8
"""Between two pictures of kernels."""
_PLAN_STARTS = {b"ftrt": "TensorRT", b"vtrt": "TensorRT for RTX", b"ptrt": "TensorRT (7 or older)"}
"""The first bytes of a plan -> the library that built it."""


@click.command(name="info", short_help="Show what a file is and where it comes from.")
@click.argument("reference", metavar="FILE")
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also estimate the blur of this image with FILE, a blind network. In a set of `data degrade`, the true one is "
    "shown next to it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --image: PNG of the blur kernels, the estimated one at the left and the true one at the right.",
)
@options.workdir_option
@options.json_option
def command(reference: str, image: Path | None, output: Path | None, workdir: Path, as_json: bool) -> None:
    """Show what FILE is and where it comes from.

    FILE is a checkpoint, a .widths.json, an .onnx, a .plan, a report.json, or a shipped name.
    """
    if output and not image:
        raise UsageError("-o is for the picture of a blur kernel.", "Give the image with --image.")
    if output and (output.exists() or output.suffix.lower() != ".png"):
        raise UsageError(f"{output} {'exists' if output.exists() else 'is no .png'}.", "Give -o a new .png file.")
    path = find_file(reference, workdir)
    facts = describe_file(path)
    if image:
        facts["blur"] = describe_blur(path, image, output)
    options.emit(facts, as_json=as_json, text=facts_text(facts))


def describe_blur(engine: Path, image: Path, picture: Path | None) -> Facts:
    """Return how wide a blind network takes the blur of an image to be, and how wide it is where that is known.

    Args:
        engine: Checkpoint, ONNX or plan.
        image: An LR image.
        picture: PNG to write; None: none.

    Raises:
        UsageError: the network is not blind.
        DrcDeployError: a file cannot be used or written.
    """
    from drc_deploy.images.reading import read_rgb
    from drc_deploy.runtime.upscaler import Upscaler

    with Upscaler.open(engine) as upscaler:
        estimate, scale = upscaler.kernel(read_rgb(image)), upscaler.info.scale
    if estimate is None:
        raise UsageError(f"{engine} does not estimate blurs.", "Leave out --image, or give a blind network.")
    facts: Facts = {"image": str(image), "estimated": _width_facts(estimate)}
    shown = [estimate]
    folder, name = image.resolve().parent, image.stem.removesuffix(f"x{scale}")
    blurs = find_blurs(folder.parent, scale, [name]) if folder.name == f"LRx{scale}" else None
    if blurs:
        truth = blurs[name].as_lr_kernel(len(estimate))
        shown.append(truth)
        facts |= {"true": _width_facts(truth), "kernel_error": kernel_error(estimate, truth)}
    if picture:
        pictures = [kernel_picture(kernel) for kernel in shown]
        gap = np.full((len(pictures[0]), _GAP_PX, 3), 255, np.uint8)
        pixels = np.concatenate([*pictures[:1], *(part for each in pictures[1:] for part in (gap, each))], axis=1)
        write_image(picture, [pixels], Layout.of(pixels))
        facts["picture"] = str(picture)
    return facts


def _width_facts(kernel: Pixels) -> Facts:
    """Return how wide a kernel is, in LR pixels and degrees; a round one has no direction."""
    long, short, direction = kernel_widths(kernel)
    known = round(direction) if long > _ROUND * short else None
    return {"long_sigma_lr_px": round(long, 2), "short_sigma_lr_px": round(short, 2), "direction_degrees": known}


def describe_file(path: Path) -> Facts:
    """Return all that is known about a checkpoint, widths file, ONNX, plan or report.

    Raises:
        ArtefactError: the file is damaged, or of a kind that this program does not make.
        MissingDependencyError: a package that reads it is not installed.
    """
    describe = next((describe for suffix, describe in DESCRIBERS.items() if path.name.endswith(suffix)), None)
    if describe is None:
        raise ArtefactError(f"{path} is of no kind known here.", f"Known are {', '.join(DESCRIBERS)}.")
    if not path.is_file():
        raise ArtefactError(f"there is no file {path}.", "Check the path.")
    facts = describe(path)
    return {"file": str(path), "size_bytes": path.stat().st_size, "sha256": sha256_of(path)} | facts


def _describe_checkpoint(path: Path) -> Facts:
    info = read_checkpoint_info(path)
    facts: Facts = {"kind": "checkpoint", "stored_as": stored_types(path)} | dataclasses.asdict(info)
    if info.foreign:
        foreign: Facts = facts["foreign"]
        # The slices of a layer are for the program, not for people.
        foreign["layers"] = {
            f"{layer.name} (trunk)" if layer.trunk else layer.name: f"{width} of {layer.full_width}"
            for layer, width in zip(info.foreign.layers, info.widths, strict=True)
        }
        foreign["left_out"] = {left.name or "all": left.reason for left in info.foreign.left_out}
        for share in ("cuttable_params", "cuttable_multiply_adds"):
            foreign[f"{share}_of_unpruned"] = foreign.pop(share)
    return facts


def _describe_widths(path: Path) -> Facts:
    content = dataclasses.asdict(read_widths_file(path))
    layers, widths = content.pop("layers"), content.pop("widths")
    return {"kind": "channel widths"} | content | {"widths": dict(zip(layers, widths, strict=True))}


def _describe_onnx(path: Path) -> Facts:
    """Read the metadata with ONNX Runtime, which every machine that runs the file has."""
    check_plain_graph(path)
    library = import_onnxruntime()
    loading = session_options(None)
    loading.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = library.InferenceSession(str(path), loading, providers=[CPU])
        metadata = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # its exceptions have no common public base
        raise ArtefactError(
            f"ONNX Runtime cannot load {path}: {str(error).rstrip('.')}.", "Export it again."
        ) from error
    signature: Facts = {
        "inputs": {value.name: f"{value.type} {value.shape}" for value in session.get_inputs()},
        "outputs": {value.name: f"{value.type} {value.shape}" for value in session.get_outputs()},
    }
    if METADATA_KEY not in metadata:
        return {"kind": "ONNX of another program"} | signature
    engine: Facts = dataclasses.asdict(EngineInfo.from_metadata(metadata, path))
    return {"kind": "ONNX"} | engine | signature


def _describe_plan(path: Path) -> Facts:
    """Return what the sidecar says and whether it belongs to this plan; the plan itself is never loaded."""
    sidecar = read_sidecar(path)
    matches = sidecar is not None and sidecar.plan_sha256 == sha256_of(path)
    with path.open("rb") as stream:
        library = _PLAN_STARTS.get(stream.read(4))
    if library is None and not matches:
        fault = "does not begin as a TensorRT plan does" if path.stat().st_size else "is empty"
        raise ArtefactError(f"{path} {fault}.", "Export it again.")
    if sidecar is None:
        return {
            "kind": f"{library} plan without a sidecar",
            "note": "only the GPU and version it was built for can load it and show more; export it again to have both",
        }
    facts: Facts = dataclasses.asdict(sidecar)
    engine: Facts = facts.pop("engine")
    state = "the sidecar belongs to this plan" if matches else "THE PLAN WAS CHANGED AFTER ITS SIDECAR WAS WRITTEN"
    return {"kind": "TensorRT plan", "sidecar": state, "sidecar_matches": matches} | engine | facts


def _describe_report(path: Path) -> Facts:
    report = read_report(path)
    engines = {
        engine.name: {
            "median_ms": engine.latency.median_ms,
            "images_per_second": engine.latency.images_per_second,
            "psnr_y": engine.quality.psnr_y,
            "ssim_y": engine.quality.ssim_y,
            "joules_per_image": engine.telemetry.energy.per_image_j
            if engine.telemetry and engine.telemetry.energy
            else None,
        }
        for engine in by_latency(report.engines)
    }
    return {
        "kind": "benchmark report",
        "created": report.created,
        "version": report.version,
        "summary": report.summary,
        "machine": report.machine.board or report.machine.cpu or report.machine.system,
        "command": report.settings.command,
        "engines": engines,
        "not_measured": {item.name: f"{item.kind}: {item.reason}" for item in report.not_measured},
        "warnings": report.warnings,
    }


DESCRIBERS: dict[str, Callable[[Path], Facts]] = {
    ".safetensors": _describe_checkpoint,
    ".widths.json": _describe_widths,
    ".onnx": _describe_onnx,
    ".plan": _describe_plan,
    "report.json": _describe_report,
}
"""Ending of the file's name -> what reads it."""


def facts_text(facts: Facts, indent: str = "") -> str:
    """Return facts as lines, nested ones further in; what a file says makes no line of its own."""
    facts = {one_line(name): value for name, value in facts.items()}
    width = max((len(name) for name in facts), default=0)
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", facts_text(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{width}}  {_value_text(value)}")
    return "\n".join(lines)


def _value_text(value: object) -> str:
    if value is None or value in ((), [], {}):
        return "-"
    if isinstance(value, list | tuple):
        return one_line(" ".join(str(item) for item in value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(str(value))
