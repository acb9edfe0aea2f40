"""The lines of ``drc-deploy export`` about a plan."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drc_deploy.engine_info import PlanSidecar, Precision, sidecar_path

if TYPE_CHECKING:
    from drc_deploy.export.trt.plan_from_onnx import PlanResult

_NAMED_LAYERS = 8
"""Layers that fell back to the GPU and are named on the terminal; the sidecar has all."""


def lines(plan: Path, sidecar: PlanSidecar, history: str) -> list[str]:
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


def as_json(result: "PlanResult") -> dict[str, Any]:
    """Return the report of a plan that was built of an ONNX file."""
    return {
        "onnx": str(result.onnx),
        "plan": str(result.plan),
        "plan_history": result.plan_history,
        "sidecar": dataclasses.asdict(result.sidecar),
    }


def as_text(result: "PlanResult") -> str:
    """Return the same for a terminal."""
    checks = result.sidecar.verification
    text = lines(result.plan, result.sidecar, result.plan_history)
    if engine := checks["engine"]:
        text.append(
            f"Checked on real images against {result.onnx.name} in ONNX Runtime: {engine['psnr_db']:.1f} dB PSNR "
            f"(needed {checks['required_psnr_db']:.0f}), {engine['differing_share']:.2%} of 8-bit samples differ, by "
            f"{engine['max_difference']:.0f} at most."
        )
    if checks["note"]:
        text.append(f"Note: the plan is unverified. {checks['note']}")
    text.append(f"Next: drc-deploy upscale IMAGE --engine {result.plan}")
    return "\n".join(text)
