"""A 1x1 convolution folded into the convolution before it: one convolution with the same results.

Nothing but a rearrangement of pixels may lie between the two. Behind a depth-to-space by r, each of its r*r phases is
multiplied by the same matrix. In DRN this makes the convolution before each PixelShuffle give only the channels that
the next stage takes, and does away with the mean shifts: drn_xs takes 0.66 to 0.69 of the time in ONNX Runtime on a
CPU (``python -m tests.benchmarks.graph_rewrites``).
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from drc_deploy.export.graph.graph_edit import (
    add_constants,
    attributes_of,
    constants_of,
    drop_unused_constants,
    only_reader,
)


def fold_pointwise_convolutions(model: onnx.ModelProto) -> None:
    """Fold every 1x1 convolution for which the result has no more multiplications than the two have, in place.

    Weights are multiplied in float64 and rounded once to the type that they had. Both convolutions must have constant
    weights of one type, and the tensors between them no other reader.
    """
    for node in list(model.graph.node):
        if node.op_type != "Conv":
            continue
        while _fold_next(model, node):
            pass
    drop_unused_constants(model)


def _fold_next(model: onnx.ModelProto, first: onnx.NodeProto) -> bool:
    """Fold what reads ``first`` into it, and say whether that was possible."""
    between = only_reader(model, first.output[0])
    phases, last = 1, first
    second = between
    if between is not None and between.op_type == "DepthToSpace":
        attributes = attributes_of(between)
        if attributes.get("mode") != b"CRD":
            return False
        phases, last = attributes["blocksize"] ** 2, between
        second = only_reader(model, between.output[0])
    if second is None or second.op_type != "Conv":
        return False
    constants = constants_of(model)
    folded = _folded_weights(constants, first, second, phases)
    if folded is None:
        return False
    _write(model, first, folded)
    last.output[0] = second.output[0]
    model.graph.node.remove(second)
    return True


def _folded_weights(
    constants: dict[str, NDArray[Any]], first: onnx.NodeProto, second: onnx.NodeProto, phases: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return weight and bias of the one convolution; None where folding is impossible or does not pay."""
    if not all(name in constants for node in (first, second) for name in node.input[1:]):
        return None
    weight, matrix = constants[first.input[1]], constants[second.input[1]]
    if weight.dtype != matrix.dtype or not _is_plain(first) or not _is_plain(second, pointwise=matrix.shape):
        return None
    before = weight.size + phases * matrix.size
    if phases * matrix.shape[0] * weight[0].size > before:
        return None
    mix = matrix[:, :, 0, 0].astype(np.float64)
    kernels = weight.astype(np.float64).reshape(mix.shape[1], phases, *weight.shape[1:])
    bias = _bias(constants, first, len(weight)).reshape(mix.shape[1], phases)
    new_weight = np.einsum("oc,cpiyx->opiyx", mix, kernels).reshape(-1, *weight.shape[1:])
    new_bias = (mix @ bias + _bias(constants, second, len(mix))[:, None]).reshape(-1)
    with np.errstate(over="ignore"):  # a product of halves need not fit into a half
        rounded = new_weight.astype(weight.dtype), new_bias.astype(weight.dtype)
    return rounded if all(np.isfinite(values.astype(np.float32)).all() for values in rounded) else None


def _is_plain(node: onnx.NodeProto, *, pointwise: tuple[int, ...] | None = None) -> bool:
    """Whether a convolution has one group and, with ``pointwise``, a kernel of one pixel."""
    attributes = attributes_of(node)
    if attributes.get("group", 1) != 1:
        return False
    if pointwise is None:
        return True
    moves = set(attributes.get("strides", [1])) != {1} or any(attributes.get("pads", [0]))
    return pointwise[2:] == (1, 1) and not moves and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"


def _bias(constants: dict[str, NDArray[Any]], node: onnx.NodeProto, channels: int) -> NDArray[np.float64]:
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(channels)
    return constants[node.input[2]].astype(np.float64)


def _write(model: onnx.ModelProto, node: onnx.NodeProto, folded: tuple[NDArray[Any], NDArray[Any]]) -> None:
    """Replace the constants of ``node``; the old ones may have other readers."""
    names = [f"{node.output[0]}.folded_{part}" for part in ("weight", "bias")]
    stale = [value for value in model.graph.initializer if value.name in names]
    for value in stale:  # from a convolution that was folded in before
        model.graph.initializer.remove(value)
    add_constants(model, dict(zip(names, folded, strict=True)))
    node.input[1:] = names
