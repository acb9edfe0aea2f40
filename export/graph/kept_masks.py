"""Masks of the kept part of a tile, inside an ONNX graph: 1 in the part whose means are asked for, 0 elsewhere.

Cutting the part out would ask TensorRT for shapes that depend on the values of an input: it could not choose kernels
for them, nor could a call be captured as a CUDA graph.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from drc_deploy.engine_info import INPUT_NAME, KEPT_NAME
from drc_deploy.export.graph.graph_edit import add_constants, set_nodes

SHARE_NAME = "exact.share"
"""Number of pixels of the tile for each one of the kept part, float32: what a masked mean has to be multiplied by."""

_EDGES = ("top", "left", "bottom", "right")
"""The values of ``KEPT_NAME``, in their order."""
_AXES = (("height", "top", "bottom", [0, 1, 3]), ("width", "left", "right", [0, 1, 2]))
"""Of each axis the length of the tile, the edges of the part, and the axes that its mask of one dimension lacks."""


def mask_name(element: int, factor: int) -> str:
    """Name of the (1, 1, factor*H, factor*W) mask of type ``element`` for a tensor ``factor`` times the input."""
    return f"exact.mask{factor}_{element}"


def add_masks(model: onnx.ModelProto, kinds: Iterable[tuple[int, int]]) -> None:
    """Compute the masks of ``kinds``, pairs as for ``mask_name``, and ``SHARE_NAME`` before anything else."""
    kinds = sorted(kinds)
    nodes = _Nodes()
    _read_sizes(nodes)
    for factor in sorted({factor for _, factor in kinds}):
        _mask_axes(nodes, factor)
    for element, factor in kinds:
        parts = [nodes.add("Cast", [f"part{factor}_{length}"], to=element) for length, *_ in _AXES]
        nodes.add("Mul", parts, f"mask{factor}_{element}")
    _compare_areas(nodes)
    nodes.put_first_in(model)


class _Nodes:
    """Nodes that are made one after the other, with the constants that they read."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Any] = {}

    def add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output, without the prefix that all names get."""
        output = output or f"{kind}_{'_'.join(inputs)}_{'_'.join(map(str, attributes.values()))}"
        names = [name if name in (INPUT_NAME, KEPT_NAME) else f"exact.{name}" for name in inputs]
        self._nodes.append(helper.make_node(kind, names, [f"exact.{output}"], f"exact.{output}", **attributes))
        return output

    def constant(self, values: "int | list[int]") -> str:
        """Return the name of an int64 constant."""
        name = f"is{values}"
        self._constants[name] = values
        return name

    def put_first_in(self, model: onnx.ModelProto) -> None:
        """Put everything in front of what the graph has."""
        add_constants(model, {f"exact.{name}": values for name, values in self._constants.items()})
        set_nodes(model, [*self._nodes, *model.graph.node])


def _read_sizes(nodes: _Nodes) -> None:
    """Name the sides of the tile and the edges of the part as scalars."""
    shape = nodes.add("Shape", [INPUT_NAME])
    for index, (length, *_) in enumerate(_AXES, start=1):
        nodes.add("Gather", [shape, nodes.constant(index)], length)
    for index, edge in enumerate(_EDGES):
        nodes.add("Gather", [KEPT_NAME, nodes.constant(index)], edge)


def _mask_axes(nodes: _Nodes, factor: int) -> None:
    """Mark every row and every column that is in the part, of a tensor ``factor`` times the input."""
    times = nodes.constant(factor)
    for length, first, last, others in _AXES:
        size, start, stop = (nodes.add("Mul", [name, times]) for name in (length, first, last))
        places = nodes.add("Range", [nodes.constant(0), size, nodes.constant(1)])
        begun, not_over = nodes.add("GreaterOrEqual", [places, start]), nodes.add("Less", [places, stop])
        within = nodes.add("And", [begun, not_over])
        nodes.add("Unsqueeze", [within, nodes.constant(others)], f"part{factor}_{length}")


def _compare_areas(nodes: _Nodes) -> None:
    """Compute ``SHARE_NAME``."""
    kept = nodes.add("Mul", [nodes.add("Sub", [last, first]) for _, first, last, _ in _AXES])
    whole = nodes.add("Mul", [length for length, *_ in _AXES])
    nodes.add("Div", [nodes.add("Cast", [area], to=TensorProto.FLOAT) for area in (whole, kept)], "share")
