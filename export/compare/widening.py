"""A graph of half precision in float32, so that ONNX Runtime can run it on a CPU.

It has no bfloat16 convolutions there, and computes a float16 graph in float32 without rounding what lies between its
operations. Casts to half precision and back, which it leaves in place, round as a GPU does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drc_deploy.errors import ArtefactError
from drc_deploy.files import scratch_folder
from drc_deploy.runtime.backends.contract import Backend
from drc_deploy.runtime.backends.open import open_backend

if TYPE_CHECKING:
    import onnx


@contextmanager
def open_for_check(path: Path) -> Iterator[Backend]:
    """Open an ONNX file that ``drc-deploy export`` wrote; one in bfloat16 is opened widened.

    Raises:
        ArtefactError: ONNX Runtime refuses the file.
    """
    with readable_on_cpu(path) as readable, open_backend(readable) as backend:
        yield backend


@contextmanager
def readable_on_cpu(path: Path) -> Iterator[Path]:
    """Return an ONNX file that ONNX Runtime can run on a CPU: ``path`` itself, or one in bfloat16 widened.

    Raises:
        ArtefactError: ``path`` is not an ONNX file.
    """
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # of protobuf, which ONNX does not name
        raise ArtefactError(
            f"{path} is not a readable ONNX file: {error}.", "Export it again with `drc-deploy export`."
        ) from error
    if all(value.data_type != onnx.TensorProto.BFLOAT16 for value in model.graph.initializer):
        yield path
        return
    with scratch_folder() as folder:
        wide = folder / path.name
        wide.write_bytes(widen(model).SerializeToString())
        yield wide


def widen(model: "onnx.ModelProto", *, rounding: bool = False) -> "onnx.ModelProto":
    """Return a copy whose tensors of half precision are float32; weights keep what rounding made of them.

    Args:
        model: whose input and output are of another type.
        rounding: whether the result of every operation in half precision is rounded to it, as on a GPU.
    """
    import onnx
    from onnx import numpy_helper

    from drc_deploy.export.precision.half_graph import ELEMENTS, half_tensors

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value in wide.graph.initializer:
        if value.data_type in ELEMENTS.values():
            value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value).astype(np.float32), value.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in ELEMENTS.values():
                attribute.i = onnx.TensorProto.FLOAT
    if rounding:
        _round(wide, half_tensors(model))
    onnx.checker.check_model(wide, full_check=True)
    return wide


def _round(model: "onnx.ModelProto", elements: Mapping[str, int]) -> None:
    """Take the results of nodes to the type ``elements`` and back, in place."""
    from onnx import TensorProto, helper

    from drc_deploy.export.graph.graph_edit import set_nodes

    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in elements:
                exact, narrow, wide = (f"{name}.{word}" for word in ("exact", "narrow", "wide"))
                node.output[index] = exact
                nodes.append(helper.make_node("Cast", [exact], [narrow], narrow, to=elements[name]))
                nodes.append(helper.make_node("Cast", [narrow], [name], wide, to=TensorProto.FLOAT))
    set_nodes(model, nodes)
