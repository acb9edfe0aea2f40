"""Checkpoints survive a round trip in a fresh process, and bad files are refused with a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from drc_deploy.checkpoint import Checkpoint, Parent, load_checkpoint, save_checkpoint
from drc_deploy.checkpoint_info import METADATA_KEY, read_checkpoint_info
from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from tests.patience import PATIENCE_S

PRUNED = (4, 12, *(20, 16, 8, 20) * 2, 12, 12)


@pytest.fixture
def checkpoint() -> Checkpoint:
    network = build_network(ModelSpec("drn_xs", 4, PRUNED))
    return Checkpoint.of(network, network.build_duals(), {"stage": "test"}, "ab" * 32)


@pytest.fixture
def saved(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, checkpoint)
    return path


def test_a_pruned_network_is_rebuilt_in_a_fresh_process(saved: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    lr = torch.rand(1, 3, 9, 8) * 255
    save_file({"lr": lr}, tmp_path / "lr.safetensors")
    code = (
        "import sys, torch; from pathlib import Path; from safetensors.torch import load_file, save_file\n"
        "from drc_deploy.checkpoint import load_checkpoint\n"
        "folder = Path(sys.argv[1]); network = load_checkpoint(folder / 'net.safetensors').build_network()\n"
        "with torch.no_grad(): sr = network.upscale(load_file(folder / 'lr.safetensors')['lr'])\n"
        "save_file({'sr': sr.contiguous()}, folder / 'sr.safetensors')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=PATIENCE_S)
    with torch.no_grad():
        expected = checkpoint.build_network().upscale(lr)
    torch.testing.assert_close(load_file(tmp_path / "sr.safetensors")["sr"], expected)


def test_a_checkpoint_can_be_read_by_those_who_can_read_other_new_files(saved: Path) -> None:
    (saved.parent / "other").touch()
    assert saved.stat().st_mode == (saved.parent / "other").stat().st_mode


def test_metadata_shows_all_without_torch(saved: Path) -> None:
    info = read_checkpoint_info(saved)
    assert (info.model, info.scale, info.widths, info.duals) == ("drn_xs", 4, PRUNED, 2)
    assert info.provenance == {"stage": "test"}
    assert info.parent_sha256 == "ab" * 32
    assert info.params == build_network(ModelSpec("drn_xs", 4, PRUNED)).parameter_count


def test_the_hash_is_that_of_what_was_read(saved: Path, tmp_path: Path) -> None:
    sha256 = sha256_of(saved)
    parent = Parent.read(saved)
    assert (parent.sha256, parent.path) == (sha256, saved)
    assert parent.checkpoint.provenance == parent.info.provenance == {"stage": "test"}
    assert parent.info == read_checkpoint_info(saved)
    for name, tensor in load_file(saved).items():
        half, _, rest = name.partition(".")
        weights = parent.checkpoint.weights if half == "primal" else parent.checkpoint.dual_weights
        assert torch.equal(weights[rest], tensor)
    with pytest.raises(ArtefactError, match="does not exist"):
        Parent.read(tmp_path / "missing.safetensors")


def test_a_file_that_takes_its_place_meanwhile_changes_nothing(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hash, weights and metadata are of one file."""
    expected = Parent.read(saved)
    other = build_network(ModelSpec("drn_xs", 4))
    save_checkpoint(tmp_path / "other.safetensors", Checkpoint.of(other))

    def replace_and_load(content: bytes) -> dict[str, Tensor]:
        (tmp_path / "other.safetensors").replace(saved)
        return load(content)

    monkeypatch.setattr("drc_deploy.checkpoint.load", replace_and_load)
    found = Parent.read(saved)
    assert (found.sha256, found.info) == (expected.sha256, expected.info)
    assert torch.equal(found.checkpoint.weights["head.bias"], expected.checkpoint.weights["head.bias"])


def test_half_precision_weights_load_as_float32(saved: Path, checkpoint: Checkpoint) -> None:
    halves = {name: tensor.half() for name, tensor in load_file(saved).items()}
    metadata = _metadata_of(saved)
    save_file(halves, saved, metadata=metadata)
    loaded = load_checkpoint(saved)
    assert loaded.weights["head.weight"].dtype == torch.float32
    torch.testing.assert_close(loaded.weights["head.weight"], checkpoint.weights["head.weight"], rtol=1e-3, atol=1e-4)


def _metadata_of(path: Path) -> dict[str, str]:
    """Return what the file says, without the checksum, as in older files."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {METADATA_KEY: json.dumps({**json.loads(file.metadata()[METADATA_KEY]), "weights_sha256": None})}


@pytest.mark.parametrize("half", [False, True])
def test_a_changed_bit_anywhere_in_the_weights_is_found(tmp_path: Path, checkpoint: Checkpoint, half: bool) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, checkpoint, half=half)
    load_checkpoint(path)
    content = path.read_bytes()
    first = 8 + int.from_bytes(content[:8], "little")
    for at in (first, (first + len(content)) // 2, len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ArtefactError, match="damaged: the SHA-256 of its weights"):
            load_checkpoint(path)


def test_nan_weights_are_refused(saved: Path) -> None:
    tensors = load_file(saved)
    tensors["primal.head.bias"][0] = float("nan")
    save_file(tensors, saved, metadata=_metadata_of(saved))
    with pytest.raises(ArtefactError, match=r"head\.bias.*NaN"):
        load_checkpoint(saved)


def test_foreign_and_missing_tensors_are_named(saved: Path) -> None:
    metadata, tensors = _metadata_of(saved), load_file(saved)
    save_file({**tensors, "primal.body.9": torch.zeros(1)}, saved, metadata=metadata)
    with pytest.raises(ArtefactError, match=r"foreign tensors, first 'body\.9'"):
        load_checkpoint(saved)
    del tensors["primal.head.bias"]
    save_file(tensors, saved, metadata=metadata)
    with pytest.raises(ArtefactError, match=r"lacks 1 tensors, first 'head\.bias'"):
        load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 64])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtefactError):
        load_checkpoint(path)


def test_truncated_checkpoint_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(ArtefactError):
        load_checkpoint(saved)


def test_safetensors_of_another_program_and_another_version_are_refused(tmp_path: Path, saved: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(ArtefactError, match="another program"):
        load_checkpoint(foreign)
    metadata = _metadata_of(saved)[METADATA_KEY].replace('"schema": 1', '"schema": 99')
    save_file(load_file(saved), saved, metadata={METADATA_KEY: metadata})
    with pytest.raises(ArtefactError, match="version 99"):
        load_checkpoint(saved)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path, checkpoint: Checkpoint) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path / "file" / "net.safetensors", checkpoint)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_tensor_outside_the_networks_is_foreign(saved: Path) -> None:
    save_file({**load_file(saved), "other": torch.zeros(1)}, saved, metadata=_metadata_of(saved))
    with pytest.raises(ArtefactError, match="foreign tensors, first 'other'"):
        load_checkpoint(saved)


@pytest.mark.parametrize("change", [{"model": "vgg"}, {"scale": 3}, {"widths": [10**12] * 12}, {"widths": []}])
def test_a_file_of_an_unknown_network_is_named(saved: Path, change: dict[str, object]) -> None:
    metadata = {METADATA_KEY: json.dumps({**json.loads(_metadata_of(saved)[METADATA_KEY]), **change})}
    save_file(load_file(saved), saved, metadata=metadata)
    with pytest.raises(ArtefactError, match=r"net\.safetensors is of no known network"):
        load_checkpoint(saved)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    network.convolution("head").weight.data.fill_(torch.inf)
    with pytest.raises(ArtefactError, match="NaN or infinite"):
        save_checkpoint(tmp_path / "net.safetensors", Checkpoint.of(network))
    assert not list(tmp_path.iterdir())
