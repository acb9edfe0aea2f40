from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.export.compare.graph_runs import run_graph
from drc_deploy.export.compare.widening import widen
from drc_deploy.export.export_checkpoint import export_checkpoint
from drc_deploy.export.graph.variants import make_variant
from drc_deploy.export.precision.half_graph import to_half
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest
from drc_deploy.export.trt.layer_precision import precision_of_graph
from drc_deploy.export.trt.libraries import Library
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.backends.open import open_backend
from tests.export.networks import Toy, graph_of, toy_info
from tests.export.trt.recorded_binding import RecordedBinding
from tests.tensorrt_api import VERSIONS


def test_a_bfloat16_graph_is_valid_and_computes_what_numpy_does_in_bfloat16() -> None:
    torch.manual_seed(0)
    exact = graph_of(Toy(), "bf16")
    graph = to_half(exact, "bf16")
    kinds = {value.name: value.data_type for value in graph.graph.initializer}
    assert onnx.TensorProto.BFLOAT16 in kinds.values()
    assert kinds["network.tail.weight"] == onnx.TensorProto.FLOAT

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    # ONNX's own evaluator, in NumPy: no kernel of ONNX Runtime or TensorRT takes part.
    (found,) = onnx.reference.ReferenceEvaluator(graph).run(None, {"lr": pixels})
    (expected,) = run_graph(exact, [pixels])
    (rounded,) = run_graph(widen(graph, rounding=True), [pixels])
    error = np.abs(rounded - expected).max()
    assert 0.1 < error < 2
    assert np.abs(found - expected).max() < 4 * error  # the evaluator adds up in bfloat16 too


def test_widening_keeps_the_rounded_weights_and_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    toy = Toy()
    graph = make_variant(to_half(graph_of(toy, "bf16"), "bf16"), toy_info("float32"))
    before = graph.SerializeToString()
    wide = widen(graph)
    assert graph.SerializeToString() == before
    assert {value.data_type for value in wide.graph.initializer if value.data_type > 7} == set()
    named = {value.name: onnx.numpy_helper.to_array(value) for value in wide.graph.initializer}
    rounded = toy.head.weight.detach().bfloat16().float().numpy()
    np.testing.assert_array_equal(named["network.head.weight"], rounded)
    np.testing.assert_array_equal(named["network.tail.weight"], toy.tail.weight.detach().numpy())


@pytest.mark.parametrize("version", VERSIONS)
def test_only_a_library_that_knows_bfloat16_builds_it(version: str) -> None:
    library = Library("tensorrt", RecordedBinding(version, kinds=()))
    if version == "tensorrt-8.6.1":
        with pytest.raises(MissingDependencyError, match=r"8\.6\.1 cannot build plans in bfloat16"):
            library.graph_precision("bf16")
    else:
        assert library.graph_precision("bf16") == "bf16"


def test_layers_in_bfloat16_are_counted_as_such() -> None:
    binding = RecordedBinding("tensorrt-10.3.0", kinds=("BF16", "FLOAT", "HALF"))
    found = precision_of_graph(binding, binding._network(0))
    assert found.convolutions == {"bf16": 1, "fp16": 1, "fp32": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bf16")


def test_a_bfloat16_plan_is_parsed_and_built(folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    result = export_checkpoint(
        ExportRequest(SHIPPED / "drn_xs.safetensors", folder, "net", "bf16", DEFAULT_TILE, 2, "tensorrt_rtx")
    )
    assert result.sidecar is not None
    assert result.sidecar.layers_by_precision["bf16"] > result.sidecar.layers_by_precision["fp32"]
    assert result.verification["rounded"]["psnr_db"] >= 50
    assert result.verification["onnx_float"]["psnr_db"] >= 50
    assert "widened" in result.verification["note"]
    with pytest.raises(ArtefactError, match="cannot load") as caught:
        open_backend(result.onnx)
    assert "no bf16" in caught.value.hint
