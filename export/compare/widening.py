"""A bfloat16 graph in float32, so that ONNX Runtime can run it on a CPU, which has no bfloat16 convolutions."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drc_deploy.errors import ArtefactError
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
    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / path.name
        wide.write_bytes(widen_bfloat16(model).SerializeToString())
        yield wide


def widen_bfloat16(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy whose bfloat16 tensors are float32 of the same values; weights keep what rounding made of them.

    Input and output must be of another type.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value in wide.graph.initializer:
        if value.data_type == TensorProto.BFLOAT16:
            value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value).astype(np.float32), value.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    onnx.checker.check_model(wide, full_check=True)
    return wide
