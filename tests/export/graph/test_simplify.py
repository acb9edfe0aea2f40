import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.graph.graph import simplify_graph, trace_graph
from drc_deploy.models.drn import DRN, DRNConfig
from drc_deploy.models.network import ModelSpec, SRNetwork


def _network(scale: int, widths: tuple[int, ...] | None = None) -> SRNetwork:
    """Return a DRN with one block a stage: more are quick to run and slow to trace."""
    torch.manual_seed(0)
    return DRN(ModelSpec("drn_xs", scale, widths), DRNConfig(8, 1)).eval()


@pytest.mark.parametrize("scale", [4, 8])
def test_a_rewritten_drn_is_torchs_to_a_thousandth_of_a_grey_level(scale: int) -> None:
    network = pixel_network(_network(scale))
    graph = trace_graph(network)
    simplify_graph(graph)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for shape in [(1, 1, 1, 3), (2, 1, 4, 3), (1, 3, 2, 3), (3, 21, 17, 3)]:
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
        (found,) = session.run(None, {"lr": pixels})
        with torch.no_grad():
            expected = network(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("scale", "shuffles"), [(4, 2), (8, 3)])
def test_the_slow_operations_are_gone_and_the_mean_shifts_with_them(scale: int, shuffles: int) -> None:
    traced = trace_graph(pixel_network(_network(scale)))
    graph = copy.deepcopy(traced)
    simplify_graph(graph)
    before, after = ([node.op_type for node in each.graph.node] for each in (traced, graph))
    assert "Resize" not in after
    # sub_mean, add_mean and the 1x1 behind each PixelShuffle; one more is the enlargement itself
    assert after.count("Conv") == before.count("Conv") - 2 - shuffles + 1
    assert after.count("DepthToSpace") == before.count("DepthToSpace") + 1


def test_a_narrow_upsampler_keeps_its_1x1_convolution_which_widens() -> None:
    full = _network(4)
    widths = [2 if layer.name == "stage0.up" else layer.full_width for layer in full.prunable_layers]
    graph = trace_graph(pixel_network(_network(4, tuple(widths))))
    before = [node.op_type for node in graph.graph.node].count("Conv")
    simplify_graph(graph)
    assert [node.op_type for node in graph.graph.node].count("Conv") == before - 3 + 1
