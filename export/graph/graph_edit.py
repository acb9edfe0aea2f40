"""Helpers for rewrites of an ONNX graph: who reads a tensor, constants by name, and tidying up."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the values of all initialisers by name."""
    return {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values; strings as bytes, as ONNX has them."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def layer_of(node: onnx.NodeProto) -> str:
    """Return the name of the module that a node of a traced graph is of; its own where it is of none."""
    return node.name.rpartition("/")[0] or node.name


def only_reader(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """Return the node that reads the tensor ``name``; None when several do, or it is an output of the graph."""
    readers: list[onnx.NodeProto] = [node for node in model.graph.node if name in node.input]
    if len(readers) != 1 or any(output.name == name for output in model.graph.output):
        return None
    return readers[0]


def replace_node(model: onnx.ModelProto, old: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    """Put ``new`` in the place of ``old``, which keeps the order of computation."""
    nodes = list(model.graph.node)
    index = next(index for index, node in enumerate(nodes) if node is old)
    nodes[index : index + 1] = new
    set_nodes(model, nodes)


def set_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replace all nodes; they may be the model's own."""
    # Copied first: assigning to the list of a message empties its nodes.
    copies = [deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def add_constants(model: onnx.ModelProto, values: Mapping[str, ArrayLike]) -> None:
    """Add initialisers by name; numbers and lists of them become int64."""
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())


def drop_unused_constants(model: onnx.ModelProto) -> None:
    """Remove the initialisers that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [value for value in model.graph.initializer if value.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
