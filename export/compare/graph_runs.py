"""Graphs in ONNX Runtime on the CPU: their results, and what lies between."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.backends.ort.providers import session_options

_AT_ONCE = 32
"""Tensors that are in memory at a time."""


def run_graph(model: onnx.ModelProto, batches: Sequence[Pixels]) -> list[Pixels]:
    """Run a graph of float32 NHWC pixels."""
    session = _session(model)
    return [session.run([OUTPUT_NAME], _feed(batch))[0] for batch in batches]


def largest_magnitudes(
    model: onnx.ModelProto, names: Sequence[str], batches: Iterable[NDArray[np.uint8]]
) -> dict[str, float]:
    """Return the largest magnitude of each of the float32 tensors ``names``, over all images."""
    watched = deepcopy(model)
    for name in names:
        absolute, largest = f"{name}.absolute", f"{name}.largest"
        watched.graph.node.append(helper.make_node("Abs", [name], [absolute], absolute))
        watched.graph.node.append(helper.make_node("ReduceMax", [absolute], [largest], largest, keepdims=0))
        watched.graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))
    session = _session(watched)
    found = np.stack([session.run([f"{name}.largest" for name in names], _feed(batch)) for batch in batches])
    return dict(zip(names, found.max(axis=0).tolist(), strict=True))


def tensors(model: onnx.ModelProto, names: Sequence[str], batch: Pixels) -> Iterator[NDArray[np.float32]]:
    """Compute the float32 tensors ``names`` for one batch, a few at a time."""
    watched = deepcopy(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = _session(watched)
    for first in range(0, len(names), _AT_ONCE):
        yield from session.run(list(names[first : first + _AT_ONCE]), _feed(batch))


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = session_options(threads=None)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _feed(batch: Pixels) -> dict[str, NDArray[np.float32]]:
    return {INPUT_NAME: batch.astype(np.float32)}
