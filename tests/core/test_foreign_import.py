"""Networks of other programs: recognised by spandrel, or code of one's own."""

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from drc_deploy.checkpoint import Parent, save_checkpoint
from drc_deploy.cli.main import main
from drc_deploy.errors import ArtefactError, DrcDeployError, MissingDependencyError, UsageError
from drc_deploy.foreign_import import import_foreign, with_code_at
from drc_deploy.models import own_code, zoo
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.state_dict_file import read_state_dict

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=3, white=255, twice=False, looks=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.white, self.twice, self.looks = white, twice, looks

    def forward(self, x):
        if self.looks and float(x.mean()) > 0.9 * self.white:
            x = x + torch.rand(1)
        y = torch.nn.functional.interpolate(x, scale_factor=2)
        y = y + 0.01 * nn.functional.pixel_shuffle(self.conv(x), 2)
        return (y, y) if self.twice else y.clamp(0, self.white)

def crash(**settings):
    import os
    os._exit(3)
"""


@pytest.fixture(autouse=True)
def _user_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def weights_of(channels: int, path: Path) -> Path:
    torch.manual_seed(0)
    convolution = nn.Conv2d(channels, 4 * channels, 3, padding=1)
    torch.save({"params": {f"module.conv.{name}": value for name, value in convolution.state_dict().items()}}, path)
    return path


def zoo_network(name: str, **settings: object) -> nn.Module:
    zoo.import_spandrel()
    targets = {
        "Compact": "spandrel.architectures.Compact.__arch.SRVGG:SRVGGNetCompact",
        "SPAN": "spandrel.architectures.SPAN.__arch.span:SPAN",
        "SwinIR": "spandrel.architectures.SwinIR.__arch.SwinIR:SwinIR",
    }
    torch.manual_seed(1)
    return zoo.build(targets[name], settings).eval()


def upscaled(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """Compute what the runtime should give, by the original module alone."""
    with torch.no_grad():
        sr: Tensor = network(torch.tensor(image).permute(2, 0, 1)[None].float() / 255)[0] * 255
    return np.floor(sr.permute(1, 2, 0).numpy().clip(0, 255) + 0.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "settings", "reach"),
    [
        ("Compact", {"num_feat": 8, "num_conv": 2, "upscale": 3}, 4),
        ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}, 21),
    ],
)
def test_an_architecture_is_recognised_and_computes_as_the_original(
    name: str, settings: dict[str, object], reach: int, tmp_path: Path
) -> None:
    original = zoo_network(name, **settings)
    torch.save({"params_ema": original.state_dict(), "params": {}}, tmp_path / "net.pth")
    checkpoint = import_foreign(tmp_path / "net.pth", None, {})
    save_checkpoint(tmp_path / "net.safetensors", checkpoint)
    info = Parent.read(tmp_path / "net.safetensors").info
    assert info.foreign is not None
    assert (info.model, info.scale, info.foreign.receptive_field) == (name.lower(), settings["upscale"], reach)
    image = np.random.default_rng(0).integers(0, 256, (19, 23, 3), np.uint8)
    with Upscaler.open(tmp_path / "net.safetensors") as upscaler:
        result = upscaler(image)
    assert np.abs(result.astype(int) - upscaled(original, image)).max() <= 1


def test_masks_and_indices_of_windows_are_computed_again_and_not_kept(tmp_path: Path) -> None:
    original = zoo_network(
        "SwinIR", embed_dim=12, depths=[2], num_heads=[2], upscale=2, upsampler="pixelshuffledirect", window_size=8
    )
    torch.save(original.state_dict(), tmp_path / "net.pth")
    checkpoint = import_foreign(tmp_path / "net.pth", None, {})
    assert not [name for name in checkpoint.weights if "mask" in name or "index" in name]
    assert checkpoint.spec.foreign is not None
    assert checkpoint.spec.foreign.multiple_of == 8
    save_checkpoint(tmp_path / "net.safetensors", checkpoint)
    image = np.random.default_rng(0).integers(0, 256, (19, 23, 3), np.uint8)
    with Upscaler.open(tmp_path / "net.safetensors") as upscaler:
        assert np.abs(upscaler(image).astype(int) - upscaled(original, image)).max() <= 1


@pytest.mark.parametrize(("channels", "white"), [(3, 255), (3, 1), (1, 255)])
def test_channels_range_and_scale_of_own_code_are_found(channels: int, white: int, code: Path, tmp_path: Path) -> None:
    weights = weights_of(channels, tmp_path / "w.pth")
    checkpoint = import_foreign(weights, f"{code}:Net", {"channels": channels, "white": white})
    assert checkpoint.spec.foreign is not None
    assert (checkpoint.spec.foreign.channels, checkpoint.spec.scale) == (channels, 2)
    assert checkpoint.spec.foreign.value_range == white
    image = torch.tensor([[[[200.0, 100.0]] * 2] * 3]).reshape(1, 3, 2, 2)
    result = checkpoint.build_network().upscale(image)
    assert torch.allclose(result, nn.functional.interpolate(image, scale_factor=2), atol=3)


def test_code_that_was_changed_or_never_imported_is_not_run(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, import_foreign(weights_of(3, tmp_path / "w.pth"), f"{code}:Net", {}))
    Parent.read(path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another user"))
    with pytest.raises(ArtefactError, match="never imported"):
        Parent.read(path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    code.write_text(f"raise SystemExit('it ran')\n{OWN}")
    with pytest.raises(ArtefactError, match="was changed") as caught:
        Parent.read(path)
    assert "Undo the change" in caught.value.hint


def test_a_checkpoint_finds_its_code_at_a_new_place(code: Path, tmp_path: Path) -> None:
    path, settings = tmp_path / "net.safetensors", {"white": 1}
    save_checkpoint(path, import_foreign(weights_of(3, tmp_path / "w.pth"), f"{code}:Net", settings))
    before = Parent.read(path).checkpoint
    image = torch.rand(1, 3, 6, 6) * 255
    expected = before.build_network().upscale(image)
    moved = code.rename(tmp_path / "moved.py")
    with pytest.raises(ArtefactError, match="gone") as caught:
        Parent.read(path)
    assert "import THIS_FILE --network FILE.py:NAME --kwargs" in caught.value.hint
    for other in ({}, {"white": True}):  # which is equal to 1 in Python
        with pytest.raises(UsageError, match="other arguments") as unequal:
            with_code_at(path, f"{moved}:Net", other)
        assert json.dumps(settings) in unequal.value.hint
    for network in ("crash", "Net"):
        moved.write_text(OWN if network == "crash" else f"raise SystemExit('it ran')\n{OWN}")
        with pytest.raises(UsageError, match="is not the code"):
            with_code_at(path, f"{moved}:{network}", settings)
    moved.write_text(OWN)
    output = tmp_path / "again.safetensors"
    arguments = ["import", path, "--network", f"{moved}:Net", "--kwargs", json.dumps(settings), "-o", output]
    assert run(*arguments) == 0
    after = Parent.read(output)
    assert torch.equal(after.checkpoint.build_network().upscale(image), expected)
    assert after.info.foreign is not None
    assert after.info.foreign.source == f"{moved}:Net"
    assert after.info.provenance == before.provenance


def test_a_command_in_a_hint_runs_nothing_that_a_file_slipped_in(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="never imported") as caught:
        own_code.find_trusted("/x.py:N $(touch pwned)", "", {"a": "'; touch pwned; '"})
    command = caught.value.hint.partition(": ")[2].removesuffix(".")
    words = shlex.split(command)
    assert words[words.index("--network") + 1] == "/x.py:N $(touch pwned)"
    assert json.loads(words[words.index("--kwargs") + 1]) == {"a": "'; touch pwned; '"}


def test_a_checkpoint_that_names_another_function_as_its_network_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot build"):
        zoo.build("shutil:rmtree", {"path": str(tmp_path)})
    with pytest.raises(ArtefactError, match="never imported"):
        own_code.find_trusted("shutil:rmtree", own_code.find_code("shutil:rmtree").sha256, {"path": str(tmp_path)})
    assert tmp_path.exists()


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("Net", {"twice": True}, "gives tuple"),
        ("Net", {"nothing": 1}, "TypeError"),
        ("missing", {}, "has no missing"),
        ("crash", {}, "ended its process"),
        ("nn", {}, "could not build"),
    ],
)
def test_code_that_builds_no_network_ends_in_a_sentence(
    name: str, settings: dict[str, object], words: str, code: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        import_foreign(weights_of(3, tmp_path / "w.pth"), f"{code}:{name}", settings)


def test_tensors_that_are_no_known_network_ask_for_its_class(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ArtefactError) as caught:
        import_foreign(tmp_path / "w.pth", None, {})
    assert "--network" in caught.value.hint
    state = zoo_network("Compact", num_feat=8, num_conv=2, upscale=4).state_dict()
    torch.save({**state, "body.0.weight": torch.zeros(7, 3, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ArtefactError, match="tensors"):
        import_foreign(tmp_path / "w.pth", None, {})
    torch.save({**state, "body.0.bias": torch.full((8,), float("nan"))}, tmp_path / "w.pth")
    with pytest.raises(ArtefactError, match="NaN"):
        import_foreign(tmp_path / "w.pth", None, {})


def test_without_spandrel_the_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as where it is not installed
    with pytest.raises(MissingDependencyError) as caught:
        import_foreign(tmp_path / "w.pth", None, {})
    assert "drc-deploy[zoo]" in caught.value.hint


def test_spandrel_is_imported_where_torchvision_is_missing_or_broken(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    program = (
        "from drc_deploy.models import zoo; import sys; zoo.import_spandrel(); print('torchvision' in sys.modules)"
    )
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"multiple_of": 0},
        {"minimum": 10**9},
        {"receptive_field": -5},
        {"value_range": 0.0},
        {"settings": {"num_feat": 1, "num_conv": 10**8}},
        {"settings": {"act_type": "unknown"}},
    ],
)
def test_a_checkpoint_with_impossible_facts_ends_in_a_sentence(change: dict[str, object], tmp_path: Path) -> None:
    torch.save(zoo_network("Compact", num_feat=8, num_conv=2, upscale=2).state_dict(), tmp_path / "w.pth")
    save_checkpoint(tmp_path / "net.safetensors", import_foreign(tmp_path / "w.pth", None, {}))
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        metadata = json.loads(file.metadata()["drc_deploy"])
    metadata["foreign"].update(change)
    save_file(tensors, tmp_path / "net.safetensors", {"drc_deploy": json.dumps(metadata)})
    with pytest.raises(ArtefactError):
        Parent.read(tmp_path / "net.safetensors")


def test_weight_normalisation_is_folded(tmp_path: Path) -> None:
    text = OWN.replace("nn.Conv2d(channels, 4 * channels, 3, padding=1)", "NORM(nn.Conv2d(3, 12, 3, padding=1))")
    (tmp_path / "own.py").write_text(f"from torch.nn.utils.parametrizations import weight_norm as NORM\n{text}")
    code = own_code.find_code(f"{tmp_path / 'own.py'}:Net")
    network = own_code.build(code, {}).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    checkpoint = import_foreign(tmp_path / "w.pth", code.source, {})
    assert set(checkpoint.weights) == {"net.conv.weight", "net.conv.bias"}
    lr = torch.rand(1, 3, 9, 7) * 255
    with torch.no_grad():
        assert checkpoint.spec.foreign is not None
        white = checkpoint.spec.foreign.value_range
        expected = network(lr * (white / 255)) * (255 / white)
        assert torch.allclose(checkpoint.build_network().upscale(lr), expected, atol=1e-3)


def test_names_and_containers_that_are_made_to_hang_are_refused_at_once(tmp_path: Path) -> None:
    state = zoo_network("Compact", num_feat=8, num_conv=2, upscale=2).state_dict()
    *names, last = state
    torch.save({**{name: state[name] for name in names}, "body.200000000.bias": state[last]}, tmp_path / "deep.pth")
    nested: list[object] = [1]
    for _ in range(40):
        nested = [nested, nested]
    torch.save({"x": nested}, tmp_path / "laughs.pth")
    torch.save({"dual_model.x": torch.zeros(3)}, tmp_path / "dual.pth")
    for name in ("deep.pth", "laughs.pth", "dual.pth"):
        with pytest.raises(ArtefactError):
            import_foreign(tmp_path / name, None, {})


def test_files_that_are_made_to_harm_are_not_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 34)}, tmp_path / "wide.pth")
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for item in plain.infolist():
            bomb.writestr(item.filename, plain.read(item))
    for name, words in (("wide.pth", r"would take \d+ times the length"), ("bomb.pth", "compressed")):
        with pytest.raises(ArtefactError, match=words):
            read_state_dict(tmp_path / name)


def test_a_wrapper_that_is_empty_gives_way_to_the_one_that_holds_the_weights(tmp_path: Path) -> None:
    torch.save({"params_ema": {}, "params": {"a.weight": torch.ones(2)}}, tmp_path / "w.pth")
    assert list(read_state_dict(tmp_path / "w.pth")) == ["a.weight"]


def test_a_training_state_names_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "optimizers": [], "iter": 5}, tmp_path / "5.state")
    with pytest.raises(ArtefactError, match="epoch, optimizers, iter"):
        read_state_dict(tmp_path / "5.state")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code or 0))


def test_the_commands_take_or_refuse_a_foreign_network_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(zoo_network("Compact", num_feat=8, num_conv=2, upscale=2).state_dict(), "small.pth")
    assert run("import", "small.pth", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "compact"
    assert run("info", "small") == 0
    assert "spandrel:Compact" in capsys.readouterr().out
    torch.save(zoo_network("Compact", num_feat=8, num_conv=2, upscale=3).state_dict(), "three.pth")
    assert run("import", "three.pth") == 0
    assert run("search", "three", "--data", ".", "--ratio", "0.3") == 2
    assert "which nothing is trained for here" in capsys.readouterr().err
    assert run("import", "drc_runs/small.safetensors") != 0


@pytest.mark.parametrize(("precision", "error"), [("fp32", 0.1), ("fp16", 255 / 10 ** (50 / 20))])
def test_an_exported_foreign_network_computes_what_the_checkpoint_does(
    precision: str, error: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    original = zoo_network("SPAN", num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2)
    torch.save(original.state_dict(), "span.pth")
    assert run("import", "span.pth") == 0
    assert run("export", "span", "--precision", precision) == 0
    image = np.random.default_rng(0).integers(0, 256, (33, 27, 3), np.uint8)
    # Not through an Upscaler, which holds what random weights make of an image for an overflow.
    with open_backend(tmp_path / "drc_runs/span.onnx") as backend:
        difference = backend.run(image[None])[0].astype(float) - upscaled(original, image)
    assert np.sqrt(np.mean(difference**2)) < error


def test_a_network_that_looks_at_values_runs_and_is_neither_cut_nor_exported(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights_of(3, tmp_path / "w.pth")
    assert run("import", "w.pth", "--network", f"{code}:Net", "--kwargs", '{"looks": true}') == 0
    assert run("info", "w") == 0
    assert "it cannot be traced" in capsys.readouterr().out
    with Upscaler.open(tmp_path / "drc_runs/w.safetensors") as upscaler:
        assert upscaler(np.full((9, 7, 3), 99, np.uint8)).shape == (18, 14, 3)
    for command in ("export w", "compress --model w --patch 16"):
        assert run(*command.split()) in (1, 2)
        words = capsys.readouterr().err
        assert "This is a fault of drc-deploy" not in words
        assert "data-dependent" in words


def test_a_network_with_windows_is_exported_for_one_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"embed_dim": 4, "depths": [2], "num_heads": [2], "upscale": 2, "window_size": 8}
    original = zoo_network("SwinIR", upsampler="pixelshuffledirect", **settings)
    torch.save(original.state_dict(), "windows.pth")
    assert run("import", "windows.pth") == 0
    assert run("export", "windows", "--exact") == 2
    assert run("export", "windows", "--precision", "int8") == 2
    assert run("export", "windows", "--tile", "20") == 2
    assert run("export", "windows") == 0
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with open_backend(tmp_path / "drc_runs/windows.onnx") as backend:
        assert (backend.info.tile, backend.info.max_batch) == ((64, 64), 1)
        difference = backend.run(image[None])[0].astype(float) - upscaled(original, image)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("arguments", [("--scale", 4), ("--kwargs", "{}"), ("--model", "drn_s", "--network", "a.py:N")])
def test_options_that_do_not_go_together_are_refused(arguments: tuple[object, ...]) -> None:
    assert run("import", "w.pth", *arguments) == 2


def test_every_error_has_a_hint() -> None:
    with pytest.raises(DrcDeployError) as caught:
        own_code.find_code("nothing")
    assert caught.value.hint
