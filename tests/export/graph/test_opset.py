import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from drc_deploy.export.export_checkpoint import ExportResult
from drc_deploy.export.graph.graph import lower_opset


def _opset(model: onnx.ModelProto) -> int:
    return int(model.opset_import[0].version)


def _model(*nodes: onnx.NodeProto, opset: int = 18) -> onnx.ModelProto:
    shape: list[str | int | None] = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("nchw"))],
        [
            helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1]),
            helper.make_tensor("axes", TensorProto.INT64, [4], [0, 1, 2, 3]),
            helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (helper.make_node("Relu", ["x"], ["y"]), 17),
        (helper.make_node("Pad", ["x", "pads"], ["y"], mode="edge"), 17),
        (helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"], mode="edge"), 18),
        (helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"), 18),
    ],
)
def test_the_opset_is_lowered_only_where_nothing_changes_its_meaning(node: onnx.NodeProto, expected: int) -> None:
    model = _model(node)
    lower_opset(model)
    assert _opset(model) == expected
    onnx.checker.check_model(model, full_check=True)
    onnxruntime.InferenceSession(model.SerializeToString())


def test_an_older_graph_is_left_as_it_is() -> None:
    model = _model(helper.make_node("Relu", ["x"], ["y"]), opset=14)
    lower_opset(model)
    assert _opset(model) == 14


def test_an_exported_drn_is_read_by_a_parser_of_opset_17(exported: ExportResult) -> None:
    assert [_opset(onnx.load(path)) for path in (exported.onnx, exported.float_onnx)] == [17, 17]


def test_a_bfloat16_graph_needs_22() -> None:
    model = _model(helper.make_node("Conv", ["x", "x"], ["y"]), opset=22)
    lower_opset(model)
    assert _opset(model) == 22
