"""A graph in half precision, made from the one in float32: weights are rounded, and casts lie where types meet.

It knows no layer by name: which inputs and results of a node change their type is what ONNX says of its operation.
Every network that can be exported can therefore be lowered, whatever its code does about types.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.engine_info import Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.graph.graph_edit import attributes_of, drop_unused_constants, layer_of, set_nodes
from drc_deploy.export.graph.pixel_borders import image_tensors, pixel_nodes

ELEMENTS: dict[Precision, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
"""Types of half precision, as ONNX numbers them."""
_DTYPES: dict[int, Any] = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
_FLOAT = TensorProto.FLOAT
_Change = tuple[list[bool], list[bool]]
"""Of each input and each output of a node: whether its type changes when the node computes in half precision."""


def to_half(model: onnx.ModelProto, precision: Precision, spared: Collection[str] = ()) -> onnx.ModelProto:
    """Return a copy of a float32 graph whose nodes compute in half precision, except those ``spared``.

    In float32 stay also the operations on pixels (``pixel_borders.py``), all that depends on the size of the input
    alone, and operations that ONNX does not have in this type. Input and output stay as they are.

    Args:
        model: in float32, and in an opset that has the type. Left as it is.
        precision: fp16 or bf16.
        spared: names of the first outputs of nodes.

    Raises:
        VerificationError: the graph has branches or loops.
        onnx.checker.ValidationError: the result is not valid, which is a fault of this program.
    """
    half = deepcopy(model)
    changes = _changes(model, precision)
    lowering = _Lowering(half, precision, {name: changes[name] for name in changes if name not in spared})
    set_nodes(half, [made for node in half.graph.node for made in lowering.convert(node)])
    drop_unused_constants(half)
    onnx.checker.check_model(half, full_check=True)
    return half


def lowerable_nodes(model: onnx.ModelProto, precision: Precision) -> list[str]:
    """Return the names of the first outputs of all nodes that ``to_half`` lowers, in their order."""
    return list(_changes(model, precision))


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor of a graph, as ONNX numbers it."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.data_type for value in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def half_tensors(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor of half precision in a graph."""
    return {name: kind for name, kind in element_types(model).items() if kind in _DTYPES}


def largest_number(precision: Precision) -> float:
    """Return the largest number that half precision has."""
    return float(ml_dtypes.finfo(_DTYPES[ELEMENTS[precision]]).max)  # type: ignore[no-untyped-call]


def _round(value: TensorProto, element: int, name: str) -> TensorProto:
    """Return a constant of another element type; numbers too large for it become infinite.

    A single number keeps from becoming 0: one such as 1e-12 is there to keep something else from it.
    """
    dtype, exact = _DTYPES[element], numpy_helper.to_array(value)
    with np.errstate(over="ignore", under="ignore"):
        rounded = exact.astype(dtype)
    if exact.size == 1 and exact.any() and not rounded.any():
        smallest = ml_dtypes.finfo(dtype).smallest_subnormal  # type: ignore[no-untyped-call]
        rounded = np.copysign(float(smallest), exact).astype(dtype)
    # As bytes, since old versions of onnx take bfloat16 in no other way.
    return helper.make_tensor(name, element, value.dims, rounded.tobytes(), raw=True)


def _changes(model: onnx.ModelProto, precision: Precision) -> dict[str, _Change]:
    """Return how each node that can compute in ``precision`` changes, by its first output."""
    types, images, pixels = element_types(model), image_tensors(model), pixel_nodes(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    kind = f"tensor({'float16' if precision == 'fp16' else 'bfloat16'})"
    found = {}
    for node in model.graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise VerificationError(
                f"{layer_of(node)} branches or repeats by what it computes, which {precision} is not made for.",
                "Export with --precision fp32.",
            )
        if images.isdisjoint(node.output) or node.output[0] in pixels:
            continue
        change = _change(node, types, opset, kind)
        if any(change[0]) or any(change[1]):
            found[node.output[0]] = change
    return found


def _change(node: onnx.NodeProto, types: Mapping[str, int], opset: int, kind: str) -> _Change:
    """Return the change of one node, from the type variables of its operation: those of float inputs become ``kind``.

    Nothing changes where the operation has no such type, or where something else than inputs decides on types.
    """
    known = onnx.defs.has(node.op_type, opset, node.domain)
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain) if known else None
    if schema is None or "dtype" in schema.attributes:
        return _unchanged(node)
    floats = [types.get(name) == _FLOAT for name in node.input]
    formal = [_formal(schema.inputs, index) for index in range(len(node.input))]
    bound = {each.type_str for each, is_float in zip(formal, floats, strict=True) if is_float and kind in each.types}
    inputs = [is_float and each.type_str in bound for each, is_float in zip(formal, floats, strict=True)]
    outputs = [_formal(schema.outputs, index).type_str in bound for index in range(len(node.output))]
    if node.op_type == "Cast":  # of integers; one from half precision is where a border is already
        outputs = [attributes_of(node)["to"] == _FLOAT and types.get(node.input[0]) not in _DTYPES]
    return inputs, outputs


def _unchanged(node: onnx.NodeProto) -> _Change:
    return [False] * len(node.input), [False] * len(node.output)


def _formal(parameters: Sequence[Any], index: int) -> Any:
    """Return the parameter of that number; the last one may stand for any number of them."""
    return parameters[min(index, len(parameters) - 1)]


class _Lowering:
    """Converts the nodes of one graph, in their order."""

    def __init__(self, model: onnx.ModelProto, precision: Precision, changes: Mapping[str, _Change]) -> None:
        self._model, self._precision, self._changes = model, precision, changes
        self._types = element_types(model)
        self._constants = {value.name: value for value in model.graph.initializer}
        self._kept = {
            name
            for node in model.graph.node
            for name, half in zip(node.input, self._of(node)[0], strict=True)
            if not half
        }
        """What some node goes on reading as it is."""
        self._halves: set[str] = set()
        self._made: set[str] = set()

    def convert(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Return ``node``, which is changed, after the casts that it needs."""
        inputs, outputs = self._of(node)
        for index, (name, half) in enumerate(zip(node.input, inputs, strict=True)):
            if self._types.get(name) == _FLOAT and half != (name in self._halves):
                if name in self._constants:
                    node.input[index] = self._rounded(name)
                else:
                    node.input[index] = f"{name}.{self._precision if half else 'fp32'}"
                    yield from self._cast(name, node.input[index], ELEMENTS[self._precision] if half else _FLOAT)
        if node.op_type == "Cast" and outputs[0]:
            attribute = next(attribute for attribute in node.attribute if attribute.name == "to")
            attribute.i = ELEMENTS[self._precision]
        self._halves.update(name for name, half in zip(node.output, outputs, strict=True) if half)
        yield node

    def _of(self, node: onnx.NodeProto) -> _Change:
        return self._changes.get(node.output[0], _unchanged(node))

    def _cast(self, name: str, made: str, element: int) -> Iterator[onnx.NodeProto]:
        if made not in self._made:
            self._made.add(made)
            yield helper.make_node("Cast", [name], [made], made, to=element)

    def _rounded(self, name: str) -> str:
        """Return the name of a constant in half precision: its own, unless it is read in float32 too."""
        made = f"{name}.{self._precision}" if name in self._kept else name
        if made not in self._made:
            self._made.add(made)
            value = _round(self._constants[name], ELEMENTS[self._precision], made)
            if made == name:
                self._constants[name].CopyFrom(value)
            else:
                self._model.graph.initializer.append(value)
        return made
