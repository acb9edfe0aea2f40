import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.export.graph.folding import fold_pointwise_convolutions


def _constant(name: str, shape: tuple[int, ...], seed: int, kind: type = np.float32) -> onnx.TensorProto:
    values: np.ndarray = np.random.default_rng(seed).normal(size=shape).astype(kind)
    return numpy_helper.from_array(values, name)


def _graph(
    widths: tuple[int, int, int] = (3, 6, 2),
    *,
    block: int = 2,
    mode: str = "CRD",
    biases: tuple[bool, bool] = (True, True),
    second: int = 1,
    between: str = "",
    kind: type = np.float32,
) -> onnx.ModelProto:
    """Conv 3x3, DepthToSpace by ``block`` (none for 1), perhaps a Relu or another reader, Conv of side ``second``."""
    cin, inner, cout = widths
    nodes = [helper.make_node("Conv", ["x", "w1", *(["b1"] if biases[0] else [])], ["a"], pads=[1] * 4)]
    name = "a"
    if block > 1:
        nodes.append(helper.make_node("DepthToSpace", ["a"], ["s"], blocksize=block, mode=mode))
        name = "s"
    if between == "relu":
        nodes.append(helper.make_node("Relu", [name], ["r"]))
        name = "r"
    nodes.append(helper.make_node("Conv", [name, "w2", *(["b2"] if biases[1] else [])], ["y"]))
    outputs = ["y", "s"] if between == "reader" else ["y"]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    constants = [
        _constant("w1", (inner * block**2, cin, 3, 3), 1, kind),
        _constant("b1", (inner * block**2,), 2, kind),
        _constant("w2", (cout, inner, second, second), 3, kind),
        _constant("b2", (cout,), 4, kind),
    ]
    read = {value for node in nodes for value in node.input}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", element, ["n", cin, "h", "w"])],
        [helper.make_tensor_value_info(name, element, list("nchw")) for name in outputs],
        [value for value in constants if value.name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    result = copy.deepcopy(model)
    fold_pointwise_convolutions(result)
    onnx.checker.check_model(result)
    return result


def _run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": pixels})[0])


@settings(deadline=None, max_examples=30)
@given(
    block=st.sampled_from([1, 2, 3]),
    inner=st.integers(4, 8),
    biases=st.tuples(st.booleans(), st.booleans()),
    size=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
)
def test_two_convolutions_become_one_of_the_same_numbers(
    block: int, inner: int, biases: tuple[bool, bool], size: tuple[int, int, int]
) -> None:
    model = _graph((3, inner, 2), block=block, biases=biases)
    folded = _folded(model)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "DepthToSpace"][: 1 if block == 1 else 2]
    batch, height, width = size
    pixels = np.random.default_rng(5).normal(size=(batch, 3, height, width)).astype(np.float32)
    np.testing.assert_allclose(_run(folded, pixels), _run(model, pixels), atol=1e-4)


def test_the_numbers_are_those_of_torch() -> None:
    model = _graph()
    w1, b1, w2, b2 = (torch.from_numpy(numpy_helper.to_array(value).copy()) for value in model.graph.initializer)
    pixels = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    inner = torch.nn.functional.pixel_shuffle(torch.nn.functional.conv2d(pixels, w1, b1, padding=1), 2)
    expected = torch.nn.functional.conv2d(inner, w2, b2)
    np.testing.assert_allclose(_run(_folded(model), pixels.numpy()), expected.numpy(), atol=1e-4)


def test_a_chain_folds_to_its_end() -> None:
    model = _graph(block=1)
    model.graph.node[-1].output[0] = "y1"
    model.graph.node.append(helper.make_node("Conv", ["y1", "w3"], ["y"]))
    model.graph.initializer.append(_constant("w3", (2, 2, 1, 1), 9))
    folded = _folded(model)
    assert len(folded.graph.node) == 1
    assert len(folded.graph.initializer) == 2
    pixels = np.ones((1, 3, 4, 4), np.float32)
    np.testing.assert_allclose(_run(folded, pixels), _run(model, pixels), atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        _graph(between="relu"),
        _graph(between="reader"),
        _graph(mode="DCR"),
        _graph(second=3),
        _graph((3, 2, 8)),  # one convolution would multiply more than both
    ],
    ids=["relu between", "another reader", "other order", "second looks around", "more work"],
)
def test_what_cannot_or_should_not_be_folded_stays(model: onnx.ModelProto) -> None:
    assert _folded(model) == model


def test_halves_stay_halves_and_a_product_that_is_no_half_is_not_folded() -> None:
    kinds = {value.data_type for value in _folded(_graph(kind=np.float16)).graph.initializer}
    assert kinds == {TensorProto.FLOAT16}
    hot = _graph(kind=np.float16)
    for value in hot.graph.initializer:
        value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value) * np.float16(1000), value.name))
    assert _folded(hot) == hot
