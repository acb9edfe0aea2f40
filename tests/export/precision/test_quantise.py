from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.export.compare.graph_runs import run_graph
from drc_deploy.export.precision.quantise import Form, quantise, weight_scales

SIDE, CHANNELS = 5, 4
LIMITS = {"first_in": 100.0, "first": 30.0, "active": 20.0, "second": 25.0, "sum": 60.0}


@pytest.fixture
def pixels() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-120, 120, (1, SIDE, SIDE, CHANNELS)).astype(np.float32)


@pytest.fixture
def weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(1)
    values = {
        "w1": random.normal(0, 0.1, (6, CHANNELS, 1, 1)),
        "b1": random.normal(0, 3, 6),
        "w2": random.normal(0, 0.3, (CHANNELS, 6, 1, 1)),
        "b2": random.normal(0, 3, CHANNELS),
    }
    return {name: value.astype(np.float32) for name, value in values.items()}


def residual_block(weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Two 1x1 convolutions with a ReLU between, added to what they read."""
    nodes = [
        helper.make_node("Transpose", ["lr"], ["first_in"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first_in", "w1", "b1"], ["first"]),
        helper.make_node("Relu", ["first"], ["active"]),
        helper.make_node("Conv", ["active", "w2", "b2"], ["second"]),
        helper.make_node("Add", ["first_in", "second"], ["sum"]),
        helper.make_node("Transpose", ["sum"], ["sr"], perm=[0, 2, 3, 1]),
    ]
    shape: list[str | int] = ["n", "h", "w", CHANNELS]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("lr", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("sr", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rounded(values: NDArray[np.float64], limit: float, levels: int, *, signed: bool) -> NDArray[np.float64]:
    """What is left of numbers in 8 bits."""
    step = np.float32(limit / levels)
    result: NDArray[np.float64] = np.clip(np.rint(values / step), -128 if signed else 0, levels) * float(step)
    return result


def by_hand(pixels: NDArray[np.float32], weights: dict[str, NDArray[np.float32]], form: Form) -> NDArray[np.float64]:
    """The quantised block as matrix products, in float64."""
    matrices = {}
    for name in ("w1", "w2"):
        matrix = weights[name][:, :, 0, 0].astype(np.float64)
        step = np.abs(matrix).max(axis=1, keepdims=True) / 127
        matrices[name] = np.rint(matrix / step) * step
    x = pixels.astype(np.float64)
    first = rounded(x, LIMITS["first_in"], 127, signed=True) @ matrices["w1"].T + weights["b1"]
    levels = 255 if form == "cpu" else 127
    active = rounded(np.maximum(first, 0), LIMITS["active"], levels, signed=False)
    second = active @ matrices["w2"].T + weights["b2"]
    if form == "cpu":
        second = rounded(second, LIMITS["second"], 127, signed=True)
    result: NDArray[np.float64] = x + second
    return result


@pytest.mark.parametrize("form", ["cpu", "tensorrt"])
def test_the_graph_computes_the_same_as_rounding_by_hand(
    form: Form, pixels: NDArray[np.float32], weights: dict[str, NDArray[np.float32]]
) -> None:
    body = residual_block(weights)
    (exact,) = run_graph(body, [pixels])
    (found,) = run_graph(quantise(body, ["first", "second"], LIMITS, form), [pixels])
    expected = by_hand(pixels, weights, form)
    # Where the sum of products lies between two levels, float32 may take the other one, of 25 / 127.
    assert np.mean(np.abs(found - expected) > 1e-3) < 0.02
    assert np.abs(found - expected).max() < 0.3
    assert 0.1 < np.abs(found - exact).mean() < 3  # it is no float graph: inputs beyond 100 are clipped, too


def test_other_convolutions_stay_as_they_were(
    pixels: NDArray[np.float32], weights: dict[str, NDArray[np.float32]]
) -> None:
    body = residual_block(weights)
    before = body.SerializeToString()
    (exact,) = run_graph(body, [pixels])
    forms: tuple[Form, ...] = ("cpu", "tensorrt")
    for form in forms:
        (found,) = run_graph(quantise(body, [], LIMITS, form), [pixels])
        np.testing.assert_array_equal(found, exact)
    assert body.SerializeToString() == before


def test_the_form_for_tensorrt_has_int8_with_zero_points_of_zero_and_float_biases(
    weights: dict[str, NDArray[np.float32]],
) -> None:
    model = quantise(residual_block(weights), ["first", "second"], LIMITS, "tensorrt")
    constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node}
    made_by = {name: node.op_type for name, node in nodes.items()}
    for node in model.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            zero_point = constants[node.input[2]]
            assert zero_point.dtype == np.int8
            assert not zero_point.any()
        if node.op_type == "Conv":
            assert [made_by[name] for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert constants[node.input[2]].dtype == np.float32
            (axis,) = (attribute.i for attribute in nodes[node.input[1]].attribute)
            assert (axis, constants[nodes[node.input[1]].input[1]].shape) == (0, (len(constants[node.input[2]]),))
    assert list(nodes["sum"].input) == ["first_in", "second"]  # the residual sum takes neither through 8 bits
    assert model.opset_import[0].version == 17


def test_onnx_runtime_fuses_every_convolution_of_the_form_for_a_cpu(
    tmp_path: Path, weights: dict[str, NDArray[np.float32]]
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    model = quantise(residual_block(weights), ["first", "second"], LIMITS, "cpu")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert not {"Conv", "FusedConv"} & set(kinds)


@pytest.mark.parametrize("bias", [0.0, 1e-3, 7.5])
def test_a_channel_without_weights_keeps_its_bias(
    bias: float, pixels: NDArray[np.float32], weights: dict[str, NDArray[np.float32]]
) -> None:
    weights["w2"][1] = 0
    weights["b2"][1] = bias
    (found,) = run_graph(quantise(residual_block(weights), ["second"], LIMITS, "tensorrt"), [pixels])
    np.testing.assert_allclose(found[..., 1], pixels[..., 1] + bias, atol=1e-4)
    (found,) = run_graph(quantise(residual_block(weights), ["second"], LIMITS, "cpu"), [pixels])
    np.testing.assert_allclose(found[..., 1], pixels[..., 1] + bias, atol=25 / 127 / 2 + 1e-3)


def test_a_scale_leaves_no_bias_that_overflows_int32() -> None:
    weight = np.full((3, 2, 1, 1), 1e-12, np.float32)
    weight[2] = 1
    bias = np.array([5, 0, 5], np.float32)
    scales = weight_scales(weight, bias, 1e-3)
    assert np.abs(bias / (scales.astype(np.float64) * 1e-3)).max() <= 2**30 * (1 + 1e-6)
    assert scales[2] == pytest.approx(1 / 127)
    assert scales[1] == pytest.approx(1e-12 / 127)
