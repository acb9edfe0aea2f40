"""A network of one's own goes through search, pruning and fine-tuning, and comes out smaller and right."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from drc_deploy.checkpoint import Checkpoint, Parent, load_checkpoint, save_checkpoint
from drc_deploy.checkpoint_info import DualDesign
from drc_deploy.cli.commands.info_command import describe_file
from drc_deploy.cli.main import main
from drc_deploy.errors import ArtefactError
from drc_deploy.foreign_import import import_foreign
from drc_deploy.models.network import multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.slices import PrunableLayer
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.search.cost import cost_model
from drc_deploy.widths import read_widths_file

OWN = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    # A residual block, a chain with PReLU, a dense concatenation, a depthwise convolution, a PixelShuffle.
    def __init__(self, out=3, norm=False):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.act = nn.PReLU(12)
        self.block = nn.Sequential(nn.Conv2d(12, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1))
        self.unused = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(12, 16, 3, padding=1, padding_mode="reflect")
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.join = nn.Conv2d(28, 4 * 10, 1)
        self.norm = nn.GroupNorm(1, 16) if norm else nn.Identity()
        self.last = nn.Conv2d(10, 4 * out, 3, padding=1)

    def forward(self, x):
        a = self.act(self.first(x))
        inner = F.relu(self.block[0](a))
        a = a + F.conv2d(inner, self.block[2].weight, self.block[2].bias, padding=1)
        b = F.leaky_relu(self.depth(self.norm(self.second(a))), 0.1)
        y = F.pixel_shuffle(self.join(torch.cat((a, b), 1)), 2)
        detail = F.pixel_shuffle(self.last(y), 2)
        return F.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False) + 0.05 * detail
"""


def imported(folder: Path, **settings: object) -> Path:
    (folder / "own.py").write_text(OWN)
    space: dict[str, type[torch.nn.Module]] = {}
    exec(OWN, space)
    torch.manual_seed(1)
    net = space["Net"](**settings)
    torch.save(net.state_dict(), folder / "own.pth")
    checkpoint = import_foreign(folder / "own.pth", f"{folder / 'own.py'}:Net", settings)
    save_checkpoint(folder / "own.safetensors", checkpoint)
    return folder / "own.safetensors"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "user"))
        return imported(folder)


@pytest.fixture(autouse=True)
def _trusted(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(own.parent / "user"))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    return int(exit_info.value.code or 0)


def test_the_metadata_name_what_can_be_cut(own: Path) -> None:
    info = Parent.read(own).info
    assert info.foreign is not None
    assert [(layer.name, layer.full_width, len(layer.read), layer.trunk) for layer in info.foreign.layers] == [
        ("first", 12, 3, True),
        ("second", 16, 1, False),
        ("join", 10, 1, False),
    ]
    assert info.widths == (12, 16, 10)
    # second, depth and join with their biases, and the weight of last, by hand.
    assert info.foreign.cuttable_params == pytest.approx((1744 + 160 + 1160 + 1080) / 5830)
    reasons = {left.name: left.reason for left in info.foreign.left_out}
    assert set(reasons) == {"last", "block.0", "unused"}
    assert "other than by calling" in reasons["block.0"]


@pytest.mark.parametrize("target", ["madds", "params"])
def test_cost_is_that_of_the_cut_network_to_the_digit(own: Path, target: str) -> None:

    spec = load_checkpoint(own).spec
    cost = cost_model(spec, target)  # type: ignore[arg-type]
    for widths in ((12, 16, 10), (5, 16, 3), (1, 1, 1), (11, 2, 9)):
        small = build_network(replace(spec, widths=widths))
        assert cost.total(widths) == (multiply_adds(small) if target == "madds" else small.parameter_count)


def test_a_bound_on_channels_counts_those_that_may_be_cut(own: Path, tmp_path: Path) -> None:
    """Of 12, 16 and 10 channels the first are of the trunk, which stays without --cut trunk."""
    output = tmp_path / "w.widths.json"
    options = ["--method", "uniform", "--ratio", 0.5, "--round-to", 1, "--target", "channels", "--patch", 8]
    assert run("search", own, *options, "-o", output) == 0
    found = read_widths_file(output)
    assert (found.widths, found.asked, found.reached, found.full) == ((12, 8, 5), 13, 13, 26)


@pytest.mark.slow
@pytest.mark.parametrize(("follow", "cut"), [("self", "trunk"), ("photographs", "inner")])
def test_compress_makes_a_smaller_network_within_the_bound(own: Path, follow: str, cut: str, tmp_path: Path) -> None:
    output = tmp_path / "small.safetensors"
    stages = ["--search-steps", 3, "--prune-batches", 1, "--channels-per-step", 4, "--finetune-steps", 2]
    options = ["--target", "madds", "--ratio", 0.4, "--round-to", 2, "--cut", cut, "--batch", 2, "--patch", 8]
    assert run("compress", "--model", own, *options, *stages, "--target-images", follow, "-o", output) == 0
    small, found = load_checkpoint(output), read_widths_file(tmp_path / "small.stages" / "small.widths.json")
    shown = describe_file(output)["foreign"]["layers"].values()
    assert list(shown) == [
        f"{width} of {full}" for width, full in zip(small.spec.widths or (), (12, 16, 10), strict=True)
    ]
    assert small.spec.widths == found.widths
    assert found.asked is not None
    assert found.reached is not None
    assert multiply_adds(small.build_network()) == found.reached <= found.asked
    assert small.provenance["follows"] == (Parent.read(own).sha256 if follow == "self" else None)
    assert len(small.build_duals()) == 1
    assert (small.spec.widths[0] < 12) == (cut == "trunk")
    again = tmp_path / "smaller.safetensors"
    assert run("prune", output, "--widths", _widths(tmp_path, [4, 4, 2]), "--batch", 2, "--patch", 8, "-o", again) == 0
    assert load_checkpoint(again).build_network().widths == (4, 4, 2)


@pytest.mark.parametrize("dual", ["single", "none"])
def test_16_bits_train_it_to_nearly_the_loss_of_32(own: Path, dual: DualDesign | Literal["none"]) -> None:
    """Images stay in 32 bits: in bfloat16 a grey level of 200 is one of 200, 201, ..., and the loss has a floor."""
    images = [torch.rand(2, 3, 8 * scale, 8 * scale) * 255 for scale in (1, 2, 4)]
    losses, dtypes = {}, {}
    for precision in ("fp32", "bf16"):
        network = load_checkpoint(own).build_network()
        duals = network.build_duals()
        duals.load_state_dict({name: torch.full_like(t, 0.01) for name, t in duals.state_dict().items()})
        options = TrainOptions(1, batch=2, patch=8, precision=precision, dual=dual, dual_weight=0.1)
        trained = Trainer(network, duals, options)
        for name in ("first", "second", "last"):
            module = network.get_submodule(f"net.{name}")
            module.register_forward_hook(lambda _m, _i, output, name=name: dtypes.update({name: output.dtype}))
        trained.update(images)
        losses[precision] = trained.take_losses()
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=1e-3)
    assert dtypes == {"first": torch.float32, "second": torch.bfloat16, "last": torch.float32}


def _widths(folder: Path, widths: list[int]) -> Path:
    path = folder / "widths.txt"
    path.write_text("\n".join(map(str, widths)))
    return path


@pytest.mark.parametrize("method", ["drc", "dcp", "cp", "thinet", "srp", "magnitude"])
def test_every_method_leaves_a_network_that_computes_what_the_masked_one_does(
    own: Path, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All widths halved, all weights otherwise as they are found: the file is loaded, and gives a likely image."""
    output = tmp_path / "small.safetensors"
    arguments = [
        "--widths",
        _widths(tmp_path, [6, 8, 5]),
        "--method",
        method,
        "--batch",
        2,
        "--patch",
        8,
        "--batches",
        1,
    ]
    assert run("prune", own, *arguments, "--batches", 1, "--target-images", "self", "-o", output, "--json") == 0
    assert json.loads(capsys.readouterr().out)["widths"] == [6, 8, 5]
    full, small = (load_checkpoint(path).build_network() for path in (own, output))
    lr = torch.rand(1, 3, 12, 12) * 255
    with torch.no_grad():
        assert float((full.upscale(lr) - small.upscale(lr)).abs().mean()) < 5


LIES: dict[str, Callable[[PrunableLayer], PrunableLayer]] = {
    "no slices": lambda layer: replace(layer, made=(), read=()),
    "nothing reads": lambda layer: replace(layer, read=()),
    "enormous": lambda layer: replace(layer, full_width=10**8),
    "too wide": lambda layer: replace(layer, full_width=layer.full_width + 1),
    "reads a bias": lambda layer: replace(layer, read=(replace(layer.made[1], group=1),)),
    "reads a kernel": lambda layer: replace(layer, read=(replace(layer.read[0], axis=2),)),
    "made by an input": lambda layer: replace(layer, made=(replace(layer.read[0], start=0),)),
    "twice": lambda layer: replace(layer, read=layer.read * 2),
    "queries that it does not make": lambda layer: replace(layer, queries=layer.read),
    "more heads than fit": lambda layer: replace(layer, read=(replace(layer.read[0], repeats=2),)),
    "heads of groups": lambda layer: replace(layer, read=({**asdict(layer.read[0]), "repeats": 2, "group": 2},)),  # type: ignore[arg-type]
    "elsewhere": lambda layer: replace(layer, read=(replace(layer.read[0], tensor="net.none.weight"),)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_checkpoint_whose_layers_are_none_of_its_network_ends_in_a_sentence(
    own: Path, lie: str, tmp_path: Path
) -> None:
    with safe_open(own, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    whole = Parent.read(own).info
    assert whole.foreign is not None
    layers = (whole.foreign.layers[0], LIES[lie](whole.foreign.layers[1]), *whole.foreign.layers[2:])
    record = json.loads(metadata["drc_deploy"])
    record["foreign"]["layers"] = [asdict(layer) for layer in layers]
    save_file(tensors, tmp_path / "x.safetensors", metadata={"drc_deploy": json.dumps(record)})
    with pytest.raises(ArtefactError) as caught:
        Parent.read(tmp_path / "x.safetensors")
    assert caught.value.hint


@pytest.mark.parametrize("widths", [[1, 2], [12, 16, 9999], [0, 16, 10]])
def test_widths_that_the_layers_cannot_have_end_in_a_sentence(own: Path, widths: list[int], tmp_path: Path) -> None:
    with safe_open(own, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    record = json.loads(metadata["drc_deploy"]) | {"widths": widths}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"drc_deploy": json.dumps(record)})
    with pytest.raises(ArtefactError, match="width"):
        describe_file(tmp_path / "x.safetensors")


def test_what_cannot_be_cut_or_trained_ends_in_a_sentence(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("finetune", own, "--dual", "progressive", "-o", tmp_path / "x.safetensors") == 2
    assert "has one dual" in capsys.readouterr().err
    assert run("compress", "--model", own, "--ratio", 0.99, "--target", "madds", "-o", tmp_path / "x.safetensors") == 2
    assert "nearest that can be reached" in capsys.readouterr().err

    whole = Parent.read(own).checkpoint
    assert whole.spec.foreign is not None
    foreign = replace(whole.spec.foreign, layers=(), left_out=())
    nothing = Checkpoint(replace(whole.spec, widths=(), foreign=foreign), whole.weights, {}, dual_design="single")
    save_checkpoint(tmp_path / "nothing.safetensors", nothing)
    for command in (["search"], ["compress", "--model"], ["ablate", "--model"]):
        assert run(*command, tmp_path / "nothing.safetensors") == 2
        assert "can be cut" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_no_table_of_latency_is_asked_for(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("search", "compress --model", "ablate --model"):
        assert run(*command.split(), own, "--target", "latency", "--ratio", "0.4", "--patch", 8) == 2
        assert "Give --target madds" in capsys.readouterr().err
