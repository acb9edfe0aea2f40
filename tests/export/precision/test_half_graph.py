"""Graphs made by hand, whose results NumPy computes by itself."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME, Precision
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.graph_runs import run_graph
from drc_deploy.export.compare.widening import widen
from drc_deploy.export.graph.pixel_borders import pixel_nodes
from drc_deploy.export.precision.half_graph import element_types, half_tensors, lowerable_nodes, to_half

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
DTYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
IMAGE = np.random.default_rng(0).uniform(0, 255, (1, 5, 6, 3)).astype(np.float32)


def _weight(made: int, taken: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(made, taken, 1, 1)).astype(np.float32)


def _model(inner: Sequence[onnx.NodeProto], result: str, opset: int = 18, **constants: ArrayLike) -> onnx.ModelProto:
    """Make a graph: from the image to 4 features "x", ``inner`` nodes, and from ``result`` back to an image."""
    nodes = [
        helper.make_node("Transpose", [INPUT_NAME], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "first"], ["x"]),
        *inner,
        helper.make_node("Conv", [result, "last"], ["small"]),
        helper.make_node("Mul", ["small", "white"], ["large"]),
        helper.make_node("Transpose", ["large"], [OUTPUT_NAME], perm=[0, 2, 3, 1]),
    ]
    values = {"white": np.float32(255), "first": _weight(4, 3, 1), "last": _weight(3, 4, 2), **constants}
    sides = (
        helper.make_tensor_value_info(name, FLOAT, ["n", *sizes, 3])
        for name, sizes in ((INPUT_NAME, "hw"), (OUTPUT_NAME, "ab"))
    )
    given, made = sides
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [given], [made], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _run(model: onnx.ModelProto) -> NDArray[Any]:
    return run_graph(widen(model, rounding=True), [IMAGE])[0]


def _mix(weight: NDArray[Any], planes: NDArray[Any]) -> NDArray[Any]:
    """Multiply pixels by a 1x1 kernel, summing in float32."""
    mixed: NDArray[Any] = np.einsum("oc,nhwc->nhwo", weight[:, :, 0, 0].astype(np.float32), planes.astype(np.float32))
    return mixed


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_result_is_rounded_as_numpy_rounds_it(precision: Precision) -> None:
    dtype, middle = DTYPES[precision], _weight(4, 4, 3)
    inner = [helper.make_node("Conv", ["x", "middle"], ["y"]), helper.make_node("Add", ["y", "x"], ["z"])]
    model = _model(inner, "z", 22, middle=middle)
    half = to_half(model, precision)
    x = _mix(_weight(4, 3, 1).astype(dtype), (IMAGE / np.float32(255)).astype(dtype)).astype(dtype)
    y = _mix(middle.astype(dtype), x).astype(dtype)
    expected = 255 * _mix(_weight(3, 4, 2), x + y)
    np.testing.assert_allclose(_run(half), expected, rtol=0, atol=2e-3)
    assert np.abs(_run(half) - run_graph(model, [IMAGE])[0]).max() > 0.05
    assert {name for name in half_tensors(half) if name in element_types(model)} == {"first", "middle", "x", "y", "z"}
    assert sum(node.op_type == "Cast" for node in half.graph.node) == 2


def test_a_spared_node_reads_computes_and_gives_float32() -> None:
    inner = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Mul", ["y", "factor"], ["z"])]
    half = to_half(_model(inner, "z", factor=np.float32(1.1)), "fp16", ["y"])
    types = element_types(half)
    for node in half.graph.node:
        if node.op_type == "Cast":
            continue
        wanted = HALF if node.output[0] in {"x", "z"} else FLOAT
        assert {types[name] for name in (*node.input, *node.output)} == {wanted}


def test_all_nodes_spared_leave_the_graph_as_it_is() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])], "y")
    assert lowerable_nodes(model, "fp16") == ["x", "y"]
    assert to_half(model, "fp16", ["x", "y"]) == model


def test_what_is_half_already_is_not_lowered_again() -> None:
    half = to_half(_model([helper.make_node("Relu", ["x"], ["y"])], "y"), "fp16")
    assert to_half(half, "fp16") == half


def test_sizes_are_computed_as_before_and_so_are_the_scales_of_a_resize() -> None:
    inner = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sides"], to=FLOAT),
        helper.make_node("Mul", ["sides", "factor"], ["more"]),
        helper.make_node("Div", ["more", "sides"], ["scales"]),
        helper.make_node("Resize", ["x", "", "scales"], ["z"], mode="linear"),
    ]
    model = _model(inner, "z", factor=np.array([1, 1, 3, 3], np.float32))
    half = to_half(model, "fp16")
    types = element_types(half)
    assert [types[name] for name in ("sides", "factor", "scales", "x", "z")] == [FLOAT, FLOAT, FLOAT, HALF, HALF]
    assert _run(half).shape == (1, 15, 18, 3)
    np.testing.assert_allclose(_run(half), run_graph(model, [IMAGE])[0], rtol=0, atol=2)


def test_a_constant_that_both_types_read_is_there_in_both() -> None:
    inner = [helper.make_node("Mul", ["x", "white"], ["y"]), helper.make_node("Div", ["y", "white"], ["z"])]
    half = to_half(_model(inner, "z"), "fp16")
    types = element_types(half)
    assert (types["white"], types["white.fp16"]) == (FLOAT, HALF)
    assert [node.input[1] for node in half.graph.node if node.output[0] in {"y", "z", "large"}] == [
        "white.fp16",
        "white.fp16",
        "white",
    ]


def test_casts_of_masks_give_half_precision() -> None:
    inner = [
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["mask"], to=FLOAT),
        helper.make_node("Mul", ["x", "mask"], ["z"]),
    ]
    half = to_half(_model(inner, "z", zero=np.float32(0)), "fp16")
    assert element_types(half)["mask"] == HALF
    assert [node.output[0] for node in half.graph.node if node.op_type == "Cast"] == ["scaled.fp16", "mask", "z.fp32"]


def test_operations_without_the_type_stay_in_float32() -> None:
    inner = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("GridSample", ["y", "grid"], ["z"])]
    model = _model(inner, "z", grid=np.zeros((1, 2, 2, 2), np.float32))
    assert lowerable_nodes(model, "fp16") == ["x", "y", "z"]
    assert lowerable_nodes(model, "bf16") == ["y"]  # ONNX has the other two since opset 22
    assert element_types(to_half(model, "bf16"))["y.fp32"] == FLOAT


def test_an_overflow_is_infinite_as_it_is_on_a_gpu() -> None:
    inner = [helper.make_node("Mul", ["x", "million"], ["y"]), helper.make_node("Div", ["y", "million"], ["z"])]
    model = _model(inner, "z", million=np.float32(1e6))
    assert not np.isfinite(_run(to_half(model, "fp16"))).all()
    spared = to_half(model, "fp16", ["y", "z"])
    np.testing.assert_allclose(_run(spared), run_graph(model, [IMAGE])[0], rtol=0, atol=2)


def test_a_bound_against_division_by_zero_does_not_become_zero() -> None:
    inner = [
        helper.make_node("Mul", ["x", "nothing"], ["y"]),
        helper.make_node("Max", ["y", "least"], ["length"]),
        helper.make_node("Div", ["y", "length"], ["z"]),
    ]
    half = to_half(_model(inner, "z", nothing=np.float32(0), least=np.float32(1e-12)), "fp16")
    constants = {value.name: numpy_helper.to_array(value) for value in half.graph.initializer}
    assert [float(constants[name]) for name in ("nothing", "least")] == [0, 2.0**-24]
    np.testing.assert_array_equal(_run(half), 0)


def test_a_graph_that_branches_is_refused() -> None:
    branch = helper.make_graph([], "b", [], [helper.make_tensor_value_info("x", FLOAT, None)])
    node = helper.make_node("If", ["yes"], ["z"], "body/if", then_branch=branch, else_branch=branch)
    model = onnx.ModelProto()
    model.CopyFrom(_model([helper.make_node("Relu", ["x"], ["z"])], "z", yes=np.array(True)))
    next(each for each in model.graph.node if each.op_type == "Relu").CopyFrom(node)
    with pytest.raises(VerificationError, match="body branches or repeats") as caught:
        to_half(model, "fp16")
    assert "fp32" in caught.value.hint


def test_the_borders_end_at_the_first_and_the_last_convolution_that_is_none_of_images() -> None:
    inner = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "to_image"], ["image"]),
        helper.make_node("Add", ["image", "scaled"], ["sum"]),
        helper.make_node("Conv", ["sum", "mean_shift"], ["shifted"]),
        helper.make_node("Concat", ["shifted", "alpha"], ["z"], axis=1),
    ]
    alpha = np.zeros((1, 1, 1, 1), np.float32)
    model = _model(inner, "z", to_image=_weight(3, 4, 4), mean_shift=_weight(3, 3, 5), alpha=alpha)
    assert pixel_nodes(model) == {"planes", "scaled", "small", "large", OUTPUT_NAME}
    # Without the last convolution, the border goes back through the mean shift to what makes an image of features.
    last = next(node for node in model.graph.node if node.output[0] == "small")
    last.CopyFrom(helper.make_node("Identity", ["shifted"], ["small"]))
    found = pixel_nodes(model) - {"planes", "scaled", "small", "large", OUTPUT_NAME}
    assert found == {"image", "sum", "shifted"}


def test_an_enlargement_by_a_convolution_belongs_to_the_entry() -> None:
    model = _model([], "x")
    first = next(node for node in model.graph.node if node.output[0] == "x")
    first.input[0] = "wide"
    at = list(model.graph.node).index(first)
    for node in (
        helper.make_node("DepthToSpace", ["phases"], ["wide"], blocksize=2),
        helper.make_node("Conv", ["scaled", "phases_of_pixels"], ["phases"]),
    ):
        model.graph.node.insert(at, node)
    model.graph.initializer.append(numpy_helper.from_array(_weight(12, 3, 6), "phases_of_pixels"))
    assert {"phases", "wide"} <= pixel_nodes(model)
    assert lowerable_nodes(model, "fp16") == ["x"]
