import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from drc_deploy.engine_info import EngineInfo
from drc_deploy.export.graph.variants import make_variant
from tests.export.networks import toy_info


def _body(offset: float) -> onnx.ModelProto:
    """Adds ``offset`` to every sample."""
    shape: list[str | int | None] = ["n", "h", "w", 3]
    graph = helper.make_graph(
        [helper.make_node("Add", ["lr", "offset"], ["sr"])],
        "body",
        [helper.make_tensor_value_info("lr", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("sr", TensorProto.FLOAT, shape)],
        [helper.make_tensor("offset", TensorProto.FLOAT, (), [offset])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"lr": pixels})[0])


@pytest.mark.parametrize(
    ("offset", "levels"),
    [
        (0.0, [0, 7, 255]),
        (0.49, [0, 7, 255]),
        (0.5, [1, 8, 255]),
        (-0.5, [0, 7, 255]),
        (-7.6, [0, 0, 247]),
        (1e6, [255] * 3),
    ],
)
def test_uint8_is_clipped_and_rounded_half_up(offset: float, levels: list[int]) -> None:
    pixels = np.array([0, 7, 255], np.uint8).reshape(1, 1, 1, 3)
    assert _run(make_variant(_body(offset), toy_info("uint8")), pixels).ravel().tolist() == levels


@given(st.floats(-300, 300, width=32))
def test_uint8_equals_the_float_variant_rounded_half_up(offset: float) -> None:
    body = _body(offset)
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3) * 5
    floats = _run(make_variant(body, toy_info("float32")), pixels.astype(np.float32))
    assert floats.min() >= 0
    assert floats.max() <= 255
    found = _run(make_variant(body, toy_info("uint8")), pixels)
    np.testing.assert_array_equal(found, np.floor(floats + np.float32(0.5)).astype(np.uint8))


def test_casts_are_the_first_and_the_last_operation_on_uint8() -> None:
    graph = make_variant(_body(0), toy_info("uint8")).graph
    assert (graph.node[0].op_type, graph.node[0].input[0]) == ("Cast", "lr")
    assert (graph.node[-1].op_type, graph.node[-1].output[0]) == ("Cast", "sr")


def test_the_metadata_comes_back(tmp_path: Path) -> None:
    info = toy_info("uint8", tile=(3, 5), scale=1)
    onnx.save(make_variant(_body(0), info), tmp_path / "x.onnx")
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert EngineInfo.from_metadata(properties, tmp_path / "x.onnx") == info
    assert "3 x 5" in properties["input"]


def test_sides_that_a_network_takes_are_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    for tile, words in ((None, "height and width multiples of 8, at least 16,"), ((24, 40), "24 x 40,")):
        info = dataclasses.replace(toy_info("uint8", tile=tile, scale=1), multiple_of=8, minimum=9)
        onnx.save(make_variant(_body(0), info), path)
        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert EngineInfo.from_metadata(properties, path) == info
        assert words in properties["input"]
        assert properties["tiles"] == "cut out of an image at multiples of 8 input pixels"


def test_a_fixed_tile_is_declared_and_leaves_the_batch_free() -> None:
    graph = make_variant(_body(0), toy_info("uint8", tile=(3, 5), scale=1)).graph
    dims = [dim.dim_param or dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, 5, 3]


def test_the_body_is_left_as_it_is() -> None:
    body = _body(1)
    before = body.SerializeToString()
    make_variant(body, toy_info("uint8"))
    assert body.SerializeToString() == before
