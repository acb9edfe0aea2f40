"""A float graph with convolutions in INT8: explicit quantisation, by QuantizeLinear and DequantizeLinear (Q/DQ) nodes.

Convolutions take 8-bit inputs and weights; sums of residual blocks, attention and whatever else lies between them
stay float32. Weights have a scale for each output channel, activations one for the tensor, and both are symmetric.
Opset 17, which TensorRT 8.6 reads, quantises float32 only: that is why the rest is float32 and not float16.

What fuses such nodes with a convolution differs, so that there are two forms:

- ``cpu``, for ONNX Runtime: it fuses a convolution whose output is quantised too, whose activations are uint8, and
  whose bias is quantised. Behind a ReLU, uint8 has all of its 256 levels for positive numbers. In the other form it
  computes in float32 with conversions around it, and slower than the float32 graph.
- ``tensorrt``: int8 with a zero point of 0, and biases in float32. TensorRT reads nothing else. Only inputs are
  quantised; it quantises an output by itself where the next layer wants it so.
"""

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from drc_deploy.export.graph.graph_edit import (
    add_constants,
    constants_of,
    drop_unused_constants,
    only_reader,
    set_nodes,
)

Form = Literal["cpu", "tensorrt"]

LARGEST = 127
"""Of symmetric int8: -128 is left out, so that the range has no longer side."""
SMALLEST_LIMIT = 1e-6
"""Stands for the limit of a tensor that is always 0, whose scale must not be."""
LARGEST_BIAS = 2.0**30
"""Of a bias in int32 units: half of what there is, which leaves the sum of products the other half."""


def quantise(
    body: onnx.ModelProto, convolutions: Collection[str], limits: Mapping[str, float], form: Form
) -> onnx.ModelProto:
    """Return a copy of ``body`` with some convolutions in INT8.

    Args:
        body: a float32 graph. Left as it is.
        convolutions: names of the outputs of those convolutions, whose weights must be constants.
        limits: the largest magnitude that is to be represented, for each tensor that a convolution or a ReLU reads or
            gives; what is larger is clipped to it.
        form: what the graph is for.
    """
    model = deepcopy(body)
    edit = _Quantiser(model, limits, form)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.output[0] in convolutions:
            nodes += edit.convolution(node)
        else:
            node.input[:] = [edit.replaced.get(name, name) for name in node.input]
            nodes.append(node)
        nodes += edit.output(node, convolutions)
    set_nodes(model, nodes)
    drop_unused_constants(model)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Quantiser:
    """Makes the nodes of one graph.

    Attributes:
        replaced: For each tensor that is quantised where it is made, what is to be read in its place.
    """

    def __init__(self, model: onnx.ModelProto, limits: Mapping[str, float], form: Form) -> None:
        self._model, self._limits, self._form = model, limits, form
        self._constants = constants_of(model)
        self._unsigned = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
        self._pairs: dict[str, str] = {}
        self.replaced: dict[str, str] = {}

    def convolution(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return ``node`` between the Q/DQ nodes of its inputs; ``node`` itself is changed."""
        name, bias = node.output[0], node.input[2] if len(node.input) > 2 else ""
        before, input_scale = self._pair(node.input[0]), self._scale(node.input[0])
        weight, biases = self._constants[node.input[1]], self._constants[bias] if bias else None
        scales = weight_scales(weight, biases, input_scale)
        levels = np.rint(weight / scales.reshape(-1, 1, 1, 1)).astype(np.int8)
        node.input[0] = self._pairs[node.input[0]]
        before.append(self._constant(f"{name}.weight", levels, scales))
        node.input[1] = before[-1].output[0]
        if biases is not None and self._form == "cpu":
            units = scales.astype(np.float64) * input_scale
            before.append(self._constant(f"{name}.bias", np.rint(biases / units).astype(np.int32), units))
            node.input[2] = before[-1].output[0]
        return [*before, node]

    def output(self, node: onnx.NodeProto, convolutions: Collection[str]) -> list[onnx.NodeProto]:
        """Quantise the output of ``node`` where the form wants it: behind a convolution, or the ReLU behind it."""
        if self._form == "tensorrt":
            return []
        made_by = node.input[0] if node.op_type == "Relu" else node.output[0]
        reader = only_reader(self._model, node.output[0])
        if made_by not in convolutions or (reader is not None and reader.op_type == "Relu"):
            return []
        if any(output.name == node.output[0] for output in self._model.graph.output):
            return []
        nodes = self._pair(node.output[0])
        self.replaced[node.output[0]] = self._pairs[node.output[0]]
        return nodes

    def _scale(self, tensor: str) -> float:
        levels = 255 if self._is_unsigned(tensor) else LARGEST
        # As it is stored: biases are counted in it.
        return float(np.float32(max(self._limits[tensor], SMALLEST_LIMIT) / levels))

    def _is_unsigned(self, tensor: str) -> bool:
        return self._form == "cpu" and tensor in self._unsigned

    def _pair(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that quantise a tensor and take it back; none where it was done before."""
        if tensor in self._pairs:
            return []
        zero: Any = np.int8(0)
        if self._form == "cpu":
            zero = np.uint8(0 if self._is_unsigned(tensor) else 128)
        scale, zero_point = f"{tensor}.scale", f"{tensor}.zero_point"
        add_constants(self._model, {scale: np.float32(self._scale(tensor)), zero_point: zero})
        quantised, result = f"{tensor}.quantised", f"{tensor}.dequantised"
        self._pairs[tensor] = result
        return [
            helper.make_node("QuantizeLinear", [tensor, scale, zero_point], [quantised], f"{tensor}.quantise"),
            helper.make_node("DequantizeLinear", [quantised, scale, zero_point], [result], f"{tensor}.dequantise"),
        ]

    def _constant(self, name: str, levels: NDArray[Any], scales: NDArray[Any]) -> onnx.NodeProto:
        """Return the node that makes a constant of its levels, with a scale for each first index."""
        inputs = [f"{name}.{part}" for part in ("levels", "scales", "zero_points")]
        values = (levels, scales.astype(np.float32), np.zeros(len(scales), levels.dtype))
        add_constants(self._model, dict(zip(inputs, values, strict=True)))
        return helper.make_node("DequantizeLinear", inputs, [f"{name}.value"], f"{name}.dequantise", axis=0)


def weight_scales(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None, input_scale: float
) -> NDArray[np.float32]:
    """Return the scale of each output channel, with which its largest weight is 127.

    Args:
        weight: (C, C', H, W).
        bias: (C,), which in int32 is counted in units of ``input_scale`` times the result and must not overflow; a
            channel of weights that are all but 0 therefore gets a larger scale. None without a bias.
        input_scale: of the activations.

    Returns:
        (C,), above 0.
    """
    scales: NDArray[np.float64] = np.abs(weight).reshape(len(weight), -1).max(axis=1).astype(np.float64) / LARGEST
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (LARGEST_BIAS * input_scale))
    found: NDArray[np.float32] = np.where(scales > 0, scales, 1).astype(np.float32)
    return found
