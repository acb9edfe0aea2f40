"""DRN-E against SPAN as spandrel has it, against closed forms, and against its own contract."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.checkpoint import save_checkpoint
from drc_deploy.errors import ArtefactError
from drc_deploy.foreign_import import import_foreign
from drc_deploy.models.cutting import mask_channels, select_channels
from drc_deploy.models.drn_e import SPAN_NAMES
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import MODELS, build_network
from drc_deploy.models.zoo import build
from drc_deploy.train.loop.initial_weights import load_initial_weights

NARROW = (20, 7, 9, 3, 32, 1, 2, 8, 8, 8, 8, 11, 13, 17, 10)
"""Widths of a pruned drn_es."""
SPAN_FEATURES = 28


def shaken(network: SRNetwork, size: float = 0.02) -> SRNetwork:
    """Return the network with noise on all its weights: new ones pass nothing but three channels on."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size)
    return network


def photograph(height: int = 17, width: int = 14) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3)) * 255


@pytest.mark.parametrize(("name", "parameters"), [("drn_e", 426_288), ("drn_es", 194_608)])
def test_the_networks_are_as_large_as_span(name: str, parameters: int) -> None:
    """SPAN's published 426 K, and the sum of its layers for 32 channels."""
    assert build_network(ModelSpec(name, 4)).parameter_count == parameters


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("widths", [None, NARROW])
def test_a_new_network_makes_the_nearest_neighbour_image(scale: int, widths: tuple[int, ...] | None) -> None:
    network, lr = build_network(ModelSpec("drn_es", scale, widths)), photograph()
    with torch.no_grad():
        sr = network.upscale(lr)
    assert torch.allclose(sr, F.interpolate(lr, scale_factor=scale, mode="nearest"), atol=1e-3)


def test_masking_is_as_good_as_cutting() -> None:
    full, lr = shaken(build_network(ModelSpec("drn_es", 4))), photograph()
    generator = torch.Generator().manual_seed(5)
    kept = [sorted(torch.randperm(32, generator=generator)[:width].tolist()) for width in NARROW]
    state = full.state_dict()
    cut = build_network(ModelSpec("drn_es", 4, NARROW))
    cut.load_state_dict(select_channels(state, full.prunable_layers, kept))
    masked = build_network(ModelSpec("drn_es", 4))
    masked.load_state_dict(state | mask_channels(state, full.prunable_layers, kept))
    with torch.no_grad():
        assert torch.allclose(cut.upscale(lr), masked.upscale(lr), atol=0.02)
        assert not torch.allclose(cut.upscale(lr), full.upscale(lr), atol=1)


def test_it_sees_as_far_as_it_says_and_no_further() -> None:
    network, centre = shaken(build_network(ModelSpec("drn_es", 2))), 30
    lr = photograph(2 * centre + 1, 2 * centre + 1).requires_grad_()
    seen = network.upscale(lr)[..., 2 * centre, 2 * centre]
    (gradient,) = torch.autograd.grad(seen.sum(), lr)
    _, _, rows, columns = gradient.nonzero().T
    first, last = centre - network.receptive_field, centre + network.receptive_field
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (first, last, first, last)


def span(features: int, path: Path) -> Path:
    """Write random weights of spandrel's SPAN."""
    torch.manual_seed(2)
    settings = {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": features}
    torch.save(build("spandrel.architectures.SPAN.__arch.span:SPAN", settings).state_dict(), path)
    return path


@pytest.mark.slow
def test_an_imported_span_is_a_start_that_makes_the_same_image(tmp_path: Path) -> None:
    checkpoint = import_foreign(span(SPAN_FEATURES, tmp_path / "span.pth"), None, {})
    save_checkpoint(source := tmp_path / "span.safetensors", checkpoint)
    network, lr = build_network(ModelSpec("drn_es", 4)), photograph()
    report = load_initial_weights(network, nn.ModuleList(), source)
    with torch.no_grad():
        theirs, ours = checkpoint.build_network().upscale(lr), network.upscale(lr)
    assert len(report.network.matched) == report.network.total
    assert torch.allclose(theirs, ours, atol=0.01)
    # Rows that are new make something, so that training can use them.
    assert network.get_parameter("blocks.3.conv2.weight")[SPAN_FEATURES:, :SPAN_FEATURES].abs().min() > 0


@pytest.mark.parametrize("spec", [ModelSpec("drn_es", 2), ModelSpec("drn_es", 4, (28, *(20,) * 12, 24, 28))])
def test_a_span_of_another_scale_or_a_pruned_one_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    """All their tensors are smaller, but as corners of those here they would make another image."""
    theirs = {here: there for there, here in SPAN_NAMES.items()}
    weights = {}
    for name, tensor in build_network(spec).state_dict().items():
        layer, _, leaf = name.rpartition(".")
        weights[f"net.{theirs[layer]}.{leaf}"] = tensor
    torch.save(weights, tmp_path / "span.pth")
    with pytest.raises(ArtefactError, match="fits drn_e x4"):
        load_initial_weights(build_network(ModelSpec("drn_e", 4)), nn.ModuleList(), tmp_path / "span.pth")


@pytest.mark.slow
def test_a_span_that_is_larger_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "span.safetensors", import_foreign(span(48, tmp_path / "span.pth"), None, {}))
    with pytest.raises(ArtefactError, match="fits drn_es x4"):
        load_initial_weights(build_network(ModelSpec("drn_es", 4)), nn.ModuleList(), tmp_path / "span.safetensors")


@pytest.mark.parametrize("scale", MODELS["drn_e"].builders)
def test_it_has_a_dual_at_every_scale(scale: int) -> None:
    """Nothing else can be trained, and weights for DRN-E come from training alone."""
    network, lr = build_network(ModelSpec("drn_e", scale)), photograph(8, 8)
    (dual,) = network.build_duals("single")
    assert dual(network.upscale(lr)).shape == lr.shape
