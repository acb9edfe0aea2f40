"""Attention is searched and pruned as other layers are: queries and keys narrow together with what is read."""

from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, Parent, load_checkpoint, save_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import MODELS, Architecture, build_network
from drc_deploy.models.swinir import SwinIR, SwinIRConfig
from drc_deploy.train.compress import CompressInputs, CompressOptions, compress
from drc_deploy.train.data.patches import PatchSampler
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.training import fresh_start
from drc_deploy.train.pruning.prune import prune_to_widths, pruning_method, shrink
from drc_deploy.train.pruning.prune_options import PruneMethod, PruneOptions
from drc_deploy.train.pruning.pruning import PruneTask
from drc_deploy.train.reader import readers
from drc_deploy.train.search.gates import gated
from drc_deploy.train.search.layer_timing import measure_latency
from drc_deploy.train.search.plain_widths import uniform_widths
from drc_deploy.train.search.search_options import SearchMethod, SearchOptions
from drc_deploy.train.search.supernet import Supernet, layer_candidates, width_steps
from drc_deploy.widths import read_widths_file
from tests.models.swinir import small_swinir
from tests.train.pruning.test_shrink import assert_masked_equals_shrunk

CONFIG = SwinIRConfig(features=16, depths=(2,), heads=2, upsampler="pixelshuffledirect")
WIDTHS = (4, 20, 5, 16)
"""Of 8 channels a head and 32 in the MLP."""


def swinir() -> SwinIR:
    return small_swinir(ModelSpec("swinir_tiny", 4), CONFIG)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "swinir_tiny", Architecture("for tests", {4: partial(SwinIR, config=CONFIG)}))


@pytest.mark.parametrize("choice", [(0, 0, 0, 0), (5, 1, 0, 3), (2, 5, 4, 0)])
def test_a_mixture_that_is_sure_of_one_candidate_is_the_network_cut_to_it(choice: tuple[int, ...]) -> None:
    """The logits of queries and keys are those of the narrow network as well, whichever channels rank first."""
    network = swinir()
    supernet = Supernet(network, network.build_duals(), SearchOptions(0.3, round_to=2))
    with torch.no_grad():
        for row, number in enumerate(choice):
            supernet.alphas[row, number] = 100.0
    used: dict[int, torch.Tensor] = {}
    mixture = supernet._mixture

    def seen(index: int, x: torch.Tensor) -> torch.Tensor:
        used[index] = mixture(index, x)
        return used[index]

    supernet._mixture = seen  # type: ignore[method-assign]
    lr = torch.rand(2, 3, 8, 16) * 255
    with torch.no_grad():
        with gated(*supernet._gates()):
            (mixed,) = network(lr)
        kept = [used[index].round().nonzero().flatten().tolist() for index in range(4)]
        cut = shrink(network, kept).upscale(lr)
        full = network.upscale(lr)
    assert [len(channels) for channels in kept] == supernet.candidates[range(4), choice].tolist()
    assert float((mixed - cut).abs().max()) <= 1e-5 * float(full.max() - full.min())
    assert float((mixed - full).abs().max()) > 1e-3 * float(full.max() - full.min())


def test_widths_of_attention_are_rounded_over_all_heads() -> None:
    """With 2 heads, 4 channels are 2 a head; an MLP has no heads."""
    attention, mlp, *_ = layer_candidates(swinir(), SearchOptions(0.25, round_to=4))
    assert set(attention) <= {2, 4, 6}
    assert all(width % 4 == 0 for width in mlp)
    with torch.device("meta"):
        light = build_network(ModelSpec("swinir_light", 4))
    steps = width_steps(light, SearchOptions(0.3, round_to=2))
    assert uniform_widths(light.widths, light.widths, 0.3, steps) == [7, 84] * 24


def test_masked_equals_shrunk_with_queries() -> None:
    assert_masked_equals_shrunk(swinir(), seed=4)


@pytest.fixture
def _quick_srp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc_deploy.train.pruning.srp.PASSES", 20)


@pytest.mark.usefixtures("_quick_srp")
@pytest.mark.parametrize("method", get_args(PruneMethod))
def test_every_method_prunes_attention_and_what_it_tuned_is_what_is_left(
    method: PruneMethod, photographs: Photographs, tmp_path: Path
) -> None:
    network = swinir()
    sampler = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1)
    options = PruneOptions(method, 1, 2, 8, channels_per_step=4)
    pruning = pruning_method(PruneTask(network, network.build_duals(), WIDTHS, sampler, options))
    small = prune_to_widths(pruning, tmp_path / "state", inputs={}).eval()
    assert small.widths == WIDTHS
    lr = torch.rand(1, 3, 8, 16) * 255
    with torch.no_grad():
        masked, cut = pruning.pruned.upscale(lr), small.upscale(lr)
    assert float((masked - cut).abs().max()) <= 1e-5 * float(cut.max() - cut.min())


@pytest.mark.usefixtures("_quick_srp")
@pytest.mark.parametrize("method", ["drc", "dcp", "cp", "thinet", "magnitude", "srp"])
def test_heads_lose_the_channels_that_carry_nothing(
    method: PruneMethod, photographs: Photographs, tmp_path: Path
) -> None:
    network, dead = swinir(), [1, 5, 6]
    attention = network.get_submodule("layers.0.residual_group.blocks.1.attn")
    with torch.no_grad():
        rows = torch.tensor([16 * part + 8 * head + c for part in range(3) for head in range(2) for c in dead])
        attention.get_parameter("qkv.weight")[rows] = 0
        attention.get_parameter("qkv.bias")[rows] = 0
        attention.get_parameter("proj.weight")[:, [8 * head + c for head in range(2) for c in dead]] *= 1e-3
    sampler = PatchSampler(photographs, scale=4, patch=8, batch=2, seed=1)
    options = PruneOptions(method, 1, 2, 8, channels_per_step=5, learning_rate=0)
    pruning = pruning_method(PruneTask(network, network.build_duals(), (8, 32, 5, 32), sampler, options))
    small = prune_to_widths(pruning, tmp_path / "state", inputs={}).eval()
    assert pruning.kept[2] == [0, 2, 3, 4, 7]
    lr = torch.rand(1, 3, 8, 16) * 255
    with torch.no_grad():
        before, after = network.upscale(lr), small.upscale(lr)
    if method != "srp":  # which trains all weights
        assert float((before - after).abs().max()) < 1e-3 * float(before.max() - before.min())


def test_a_reader_of_several_heads_sees_its_channels_next_to_each_other() -> None:
    network = swinir()
    (reader,) = readers(network, 0)
    assert (reader.width, reader.group) == (8, 2)
    kernels = reader.kernels(reader.weight)
    assert kernels.shape == (8, 2, 16, 1)
    assert torch.equal(kernels[3, 1, :, 0], reader.weight[:, 8 + 3])
    assert kernels.data_ptr() == reader.weight.data_ptr()
    x = torch.rand(2, 1, 64, 16)
    assert torch.equal(reader.channels(x)[..., 2 * 3 + 1], x[..., 8 + 3])


@pytest.mark.parametrize("search", ["drc", "uniform"])
def test_it_is_compressed_within_the_bound(search: SearchMethod, photographs: Photographs, tmp_path: Path) -> None:
    network = swinir()
    path = tmp_path / "swinir_tiny.safetensors"
    save_checkpoint(path, Checkpoint.of(network, network.build_duals()))
    parent = Parent.read(path)
    assert parent.info.dual_design == "single"
    options = CompressOptions(
        SearchOptions(0.12, 2, 2, 8, round_to=2, method=search, target="madds"),
        PruneOptions("drc", 1, 2, 8, channels_per_step=8),
        TrainOptions(2, 2, 8, dual="single"),
    )
    output = tmp_path / "small.safetensors"
    compress(CompressInputs(parent, photographs), {output: options})
    small = load_checkpoint(output).build_network()
    found = read_widths_file(next(tmp_path.rglob("*.widths.json")))
    assert found.asked is not None
    assert found.reached is not None
    assert multiply_adds(small) == found.reached <= found.asked
    assert small.widths == found.widths != network.widths


def test_what_it_cannot_have_ends_in_a_sentence() -> None:
    spec = ModelSpec("swinir_tiny", 4)
    with pytest.raises(UsageError, match="has one dual"):
        fresh_start(spec, TrainOptions(2, 2, 8))
    with pytest.raises(UsageError, match="no patches of 12x12") as caught:
        fresh_start(spec, TrainOptions(2, 2, 12, dual="single"))
    assert "--patch 16" in caught.value.hint
    with pytest.raises(UsageError, match="attention"):
        measure_latency(spec, 16, 16)
    network = build_network(spec)
    with pytest.raises(UsageError, match="darts copies the convolution"):
        Supernet(network, network.build_duals(), SearchOptions(0.3, method="darts"))
