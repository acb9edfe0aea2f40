"""SwinIR against spandrel's, against what its authors published, and against its own contract."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from drc_deploy.checkpoint_info import LEAST_SIDES, WINDOWS
from drc_deploy.errors import UsageError
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.graph.graph import trace_graph
from drc_deploy.models.cutting import mask_channels, select_channels
from drc_deploy.models.network import ModelSpec, SRNetwork, multiply_adds
from drc_deploy.models.reach import measure_reach
from drc_deploy.models.registry import MODELS, build_network
from drc_deploy.models.swinir import SwinIR, SwinIRConfig
from drc_deploy.official import import_official
from tests.models.swinir import (
    COMPUTED,
    PUBLISHED_WIDTHS,
    SMALL,
    SMALL_CLASSICAL,
    small_swinir,
    spandrel_swinir,
)

LAYER_NORM_OPERATIONS = 5
"""For each number that a LayerNorm makes, in the convention of the published figures."""


def build_on_meta(name: str, widths: tuple[int, ...] | None = None) -> SRNetwork:
    with torch.device("meta"):
        return build_network(ModelSpec(name, 4, widths))


def published_multiply_adds(network: SRNetwork) -> float:
    """Count all products, those inside attention too, but no biases; and LayerNorms, for an input of 96x96."""
    normalised = 0

    def count(_module: object, _inputs: object, output: torch.Tensor) -> None:
        nonlocal normalised
        normalised += output.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 96, 96, device="meta"))
    return float(counter.get_total_flops()) / 2 + LAYER_NORM_OPERATIONS * normalised


@pytest.mark.parametrize(
    ("name", "params", "published", "ours"),
    [("swinir_light", 929_628, 9.954, 8.214), ("swinir", 11_900_199, 121.116, 113.302)],
)
def test_full_networks_have_the_published_size(name: str, params: int, published: float, ours: float) -> None:
    network = build_on_meta(name)
    assert network.parameter_count == params
    assert round(published_multiply_adds(network) / 1e9, 3) == published
    assert round(multiply_adds(network) / 1e9, 3) == ours
    assert f"{published} G" in MODELS[name].summary
    (dual,) = network.build_duals()
    assert sum(p.numel() for p in dual.parameters()) == 3168


@pytest.mark.parametrize(
    ("widths", "params", "published"), [(PUBLISHED_WIDTHS, 631_632, 6.837), ((7, 84) * 24, 720_108, 7.533)]
)
def test_published_and_uniform_widths_give_the_published_size(
    widths: tuple[int, ...], params: int, published: float
) -> None:
    network = build_on_meta("swinir_light", widths)
    assert network.parameter_count == params
    assert round(published_multiply_adds(network) / 1e9, 3) == published


@pytest.mark.parametrize(
    ("config", "scale"),
    [(SMALL, 4), (SMALL, 2), (SMALL, 3), (SMALL_CLASSICAL, 2), (SMALL_CLASSICAL, 3), (SMALL_CLASSICAL, 8)],
)
def test_output_is_that_of_spandrel_with_the_same_weights(config: SwinIRConfig, scale: int) -> None:
    network, reference = small_swinir(ModelSpec("small", scale), config), spandrel_swinir(config, scale)
    names = {name for name in reference.state_dict() if not name.endswith(COMPUTED)}
    assert set(network.state_dict()) == names
    reference.load_state_dict(network.state_dict(), strict=False)
    for shape in ((2, 3, 16, 24), (1, 3, 8, 8), (1, 3, 8, 40)):
        lr = torch.rand(shape) * 255
        with torch.no_grad():
            expected, got = reference(lr / 255) * 255, network.upscale(lr)
        assert float((got - expected).abs().max()) <= 1e-5 * float(expected.max() - expected.min())
        assert torch.equal(network(lr)[-1], got)


def test_masked_equals_shrunk_for_attention_and_mlp() -> None:
    network = small_swinir()
    generator = torch.Generator().manual_seed(2)
    kept = [sorted(torch.randperm(w, generator=generator)[: max(1, w // 2)].tolist()) for w in network.widths]
    small = SwinIR(replace(network.spec, widths=tuple(map(len, kept))), SMALL).eval()
    small.load_state_dict(select_channels(network.state_dict(), network.present_layers, kept))
    lr = torch.rand(1, 3, 16, 24) * 255
    with torch.no_grad():
        full, shrunk = network.upscale(lr), small.upscale(lr)
        network.load_state_dict(mask_channels(network.state_dict(), network.present_layers, kept), strict=False)
        masked = network.upscale(lr)
    span = float(full.max() - full.min())
    assert float((masked - shrunk).abs().max()) <= 1e-5 * span
    assert float((full - shrunk).abs().max()) > 1e-3 * span


def test_sizes_and_reach_are_as_measured() -> None:
    """The table in the checkpoint's metadata, which needs no torch, says the same as the networks."""
    for name, side in WINDOWS.items():
        network = build_on_meta(name)
        assert (network.multiple_of, network.minimum) == (side, side)
    assert set(WINDOWS) == {name for name in MODELS if build_on_meta(name).multiple_of > 1}
    assert {name: build_on_meta(name).minimum for name in MODELS if build_on_meta(name).minimum > 1} == LEAST_SIDES
    network = small_swinir(config=replace(SMALL, depths=(2,)))
    measured = measure_reach(_Image(network), 4)
    assert (measured.multiple_of, measured.minimum) == (8, 8)
    assert measured.global_operations is network.global_operations is False
    assert measured.receptive_field == network.receptive_field


def test_reach_of_the_papers_networks() -> None:
    """103 and 153 pixels, as an independent walk over the windows found."""
    assert [build_on_meta(name).receptive_field for name in ("swinir_light", "swinir")] == [103, 153]


class _Image(torch.nn.Module):
    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.network.upscale(lr)


def test_halved_body_gives_nearly_the_same_image() -> None:
    network = small_swinir()
    lr = torch.rand(1, 3, 8, 16) * 255
    with torch.no_grad():
        exact = network.upscale(lr)
        network.cast_body(torch.bfloat16)
        halved = network.upscale(lr)
    assert halved.dtype == torch.float32
    assert 0 < float((halved - exact).abs().max()) < 0.05 * float(exact.max() - exact.min())


def test_exported_tile_computes_what_torch_does() -> None:
    network = small_swinir(config=replace(SMALL, depths=(2,)))
    graph = trace_graph(pixel_network(network), tile=(16, 16))
    kinds = [node.op_type for node in graph.graph.node]
    # The table of position biases is looked up when the graph is made, and so are most of the masks.
    assert not {"Gather", "GatherND", "ScatterND", "Range", "Shape"} & set(kinds)
    assert len(kinds) <= 45 * 2 + 20
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    (got,) = session.run(None, {session.get_inputs()[0].name: pixels})
    with torch.no_grad():
        expected = network.upscale(torch.from_numpy(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.ptp(expected))


def test_an_official_file_with_buffers_and_a_dual_is_imported(tmp_path: Path) -> None:
    """Pruned as published, wrapped, with buffers that can be computed and the authors' names of the dual."""
    network = build_network(ModelSpec("swinir_light", 4, PUBLISHED_WIDTHS))
    (dual,) = network.build_duals()
    state = dict(network.state_dict())
    block = "layers.0.residual_group.blocks.1"
    state |= {f"{block}.attn_mask": torch.zeros(64, 64, 64), f"{block}.attn.relative_position_index": torch.ones(64)}
    authors = {"0.weight": "0.0.weight", "2.weight": "1.0.weight", "4.weight": "2.weight"}
    state |= {f"dual_model.dual_module.{authors[name]}": value for name, value in dual.state_dict().items()}
    torch.save({"params": state}, tmp_path / "net.pth")
    checkpoint = import_official(tmp_path / "net.pth", "swinir_light", 4)
    assert checkpoint.spec.widths == PUBLISHED_WIDTHS
    assert checkpoint.dual_design == "single"
    assert sum(value.numel() for value in (*checkpoint.weights.values(), *checkpoint.dual_weights.values())) == 634_800
    for name, value in dual.state_dict().items():
        assert torch.equal(checkpoint.dual_weights[f"0.{name}"], value)
    assert torch.equal(checkpoint.weights["conv_first.weight"], state["conv_first.weight"])


def test_impossible_widths_are_refused() -> None:
    with pytest.raises(UsageError, match=r"stage0\.block0\.attention"):
        build_on_meta("swinir_light", (11, 120) * 24)
