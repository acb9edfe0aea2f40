from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.graph_runs import run_graph
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.export_checkpoint import ExportResult
from drc_deploy.export.graph import graph
from drc_deploy.export.graph.graph import TRACE_SHAPE, trace_graph
from drc_deploy.export.graph.graph_edit import layer_of
from tests.export.networks import BurnsBatch, Gathers, Masked, Pools, PoolsFurther, Toy, Windows
from tests.traces import Traces


def test_the_graph_computes_what_torch_does_at_other_sizes_and_batches() -> None:
    network = pixel_network(Toy())
    session = onnxruntime.InferenceSession(trace_graph(network).SerializeToString())
    for shape in [(1, 5, 7, 3), (4, 16, 9, 3), (3, 1, 1, 3)]:
        assert shape[:3] != TRACE_SHAPE[:3]
        pixels = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        (found,) = session.run(None, {"lr": pixels})
        with torch.no_grad():
            expected = network(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_batch_that_is_burnt_in_is_refused() -> None:
    with pytest.raises(VerificationError, match="every size"):
        trace_graph(pixel_network(BurnsBatch()))


def test_nodes_are_named_after_modules() -> None:
    nodes = trace_graph(pixel_network(Toy())).graph.node
    assert [layer_of(node) for node in nodes if node.op_type == "Conv"] == ["head", "inner", "tail"]
    assert len({node.name for node in nodes}) == len(nodes)


def test_the_file_holds_no_path_of_this_machine(exported: ExportResult) -> None:
    data = exported.onnx.read_bytes()
    assert b".py" not in data
    assert b"site-packages" not in data


def test_means_are_written_so_that_old_parsers_read_them_and_no_size_is_computed(exported: ExportResult) -> None:
    kinds = [node.op_type for node in onnx.load(exported.onnx).graph.node]
    assert kinds.count("GlobalAveragePool") == 8  # one per attention block
    assert not {"ReduceMean", "Shape", "Reshape"} & set(kinds)


def test_a_trace_that_the_tests_keep_takes_the_weights_of_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace_anew: Callable[..., onnx.ModelProto]
) -> None:
    """Else all tests of exports would look at another graph than users get."""
    kept, another = (pixel_network(Toy()) for _ in range(2))
    traces = Traces(trace_anew, tmp_path)
    monkeypatch.setattr(graph, "_export_onnx", traces.trace)
    trace_graph(kept)
    monkeypatch.setattr(traces, "_trace", None)
    found = trace_graph(another)
    monkeypatch.setattr(graph, "_export_onnx", trace_anew)
    assert found.SerializeToString() == trace_graph(another).SerializeToString()


@pytest.mark.parametrize(("kind", "least"), [(Gathers, 2), (Pools, 8), (PoolsFurther, 15)])
def test_a_network_is_traced_for_all_sides_that_it_takes(
    kind: type[Toy], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "ForeignNetwork", Toy)  # such networks are traced strictly
    network, random = pixel_network(kind()), np.random.default_rng(0)
    shapes = [(1, least, least, 3), (3, least + 8, least + 2, 3)]
    pixels = [random.uniform(0, 255, shape).astype(np.float32) for shape in shapes]
    for batch, found in zip(pixels, run_graph(trace_graph(network), pixels), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(found, network(torch.from_numpy(batch)).numpy(), atol=1e-3)


def test_a_network_of_one_image_is_traced_for_a_tile() -> None:
    network = pixel_network(Windows())
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 16, 24, 3)).astype(np.float32)
    (found,) = run_graph(trace_graph(network, tile=(16, 24)), [pixels])
    with torch.no_grad():
        np.testing.assert_allclose(found, network(torch.from_numpy(pixels)).numpy(), atol=1e-3)
    with pytest.raises(VerificationError, match="for every size"):
        trace_graph(network)


def test_a_mask_that_a_network_keeps_outside_itself_is_a_real_one_after_the_trace() -> None:
    network = pixel_network(Masked())
    trace_graph(network, tile=(16, 16))
    with torch.no_grad():
        assert network(torch.zeros(1, 16, 16, 3)).numpy().shape == (1, 32, 32, 3)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (2, 2, 4, 5, 5)])
def test_means_over_the_last_axes_stay_what_they_are(shape: tuple[int, ...]) -> None:
    graph_ = helper.make_graph(
        [
            helper.make_node("Identity", ["in"], ["x"]),
            helper.make_node("ReduceMean", ["x", "axes"], ["out"], keepdims=1),
        ],
        "means",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [-2, -1])],
    )
    model = helper.make_model(graph_, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    graph._use_global_pooling(model)
    assert (model.graph.node[1].op_type == "GlobalAveragePool") == (len(shape) == 4)
    x = np.random.default_rng(0).random(shape, np.float32)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"in": x})
    np.testing.assert_allclose(found, x.mean((-2, -1), keepdims=True), rtol=1e-6)
