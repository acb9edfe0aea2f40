"""Masks of the kept part of a tile, inside an ONNX graph: 1 in the part whose means are asked for, 0 elsewhere.

Cutting the part out would ask TensorRT for shapes that depend on the values of an input: it could not choose kernels
for them, nor could a call be captured as a CUDA graph.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from drc_deploy.engine_info import INPUT_NAME, KEPT_NAME

if TYPE_CHECKING:
    import onnx

SHARE_NAME = "exact.share"
"""Number of pixels of the tile for each one of the kept part, float32: what a masked mean has to be multiplied by."""

_EDGES = ("top", "left", "bottom", "right")
"""The values of ``KEPT_NAME``, in their order."""


def mask_name(element: int, factor: int) -> str:
    """Name of the (1, 1, factor*H, factor*W) mask of type ``element`` for a tensor ``factor`` times the input."""
    return f"exact.mask{factor}_{element}"


def add_masks(model: "onnx.ModelProto", kinds: Iterable[tuple[int, int]]) -> None:
    """Compute the masks of ``kinds``, pairs as for ``mask_name``, and ``SHARE_NAME`` before anything else."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {"start": 0, "step": 1, "rows": [0, 1, 3], "columns": [0, 1, 2]}
    constants |= {f"index{index}": index for index in range(4)}

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        names = [f"exact.{name}" for name in inputs]
        nodes.append(helper.make_node(kind, names, [f"exact.{output}"], f"exact.{output}.{kind}", **attributes))
        return output

    nodes.append(helper.make_node("Shape", [INPUT_NAME], ["exact.lr_shape"], "exact.lr_shape.Shape"))
    nodes.append(helper.make_node("Identity", [KEPT_NAME], ["exact.kept"], "exact.kept.Identity"))
    for index, edge in enumerate(_EDGES):
        add("Gather", ["kept", f"index{index}"], edge)
    sides = [
        ("rows", add("Gather", ["lr_shape", "index1"], "height"), "top", "bottom"),
        ("columns", add("Gather", ["lr_shape", "index2"], "width"), "left", "right"),
    ]
    for factor in sorted({factor for _, factor in kinds}):
        constants[f"times{factor}"] = factor
        for axis, length, first, last in sides:
            start, stop, size = (
                add("Mul", [edge, f"times{factor}"], f"{edge}{factor}") for edge in (first, last, length)
            )
            places = add("Range", ["start", size, "step"], f"places{factor}_{axis}")
            begun = add("GreaterOrEqual", [places, start], f"begun{factor}_{axis}")
            open_ = add("Less", [places, stop], f"open{factor}_{axis}")
            within = add("And", [begun, open_], f"within{factor}_{axis}")
            add("Unsqueeze", [within, axis], f"part{factor}_{axis}")
    for element, factor in sorted(kinds):
        parts = [
            add("Cast", [f"part{factor}_{axis}"], f"cast{factor}_{element}_{axis}", to=element) for axis, *_ in sides
        ]
        add("Mul", parts, f"mask{factor}_{element}")
    kept_sides = [add("Sub", [last, first], f"kept_{axis}") for axis, _, first, last in sides]
    areas = [add("Mul", kept_sides, "kept_area"), add("Mul", ["height", "width"], "area")]
    kept_area, area = (add("Cast", [name], f"{name}_float", to=TensorProto.FLOAT) for name in areas)
    add("Div", [area, kept_area], "share")

    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(values, np.int64), f"exact.{name}") for name, values in constants.items()
    )
    nodes += [type(node).FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
