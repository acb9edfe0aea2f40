"""Import of the authors' files, and refusal of anything that could run code."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drc_deploy.checkpoint import load_checkpoint, save_checkpoint
from drc_deploy.errors import ArtefactError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.official import import_official
from tests.models.published import WIDTHS


def test_a_pruned_official_file_gives_its_widths_and_mean_shift(tmp_path: Path) -> None:
    network = build_network(ModelSpec("drn_s", 4, WIDTHS[4, 70]))
    state = network.state_dict()
    state["sub_mean.bias"] = torch.tensor([-100.0, -101.0, -102.0])  # trained, so not the constant
    torch.save(state, tmp_path / "net.pt")
    torch.save([dual.state_dict() for dual in network.build_duals()], tmp_path / "duals.pt")
    checkpoint = import_official(tmp_path / "net.pt", "drn_s", 4, tmp_path / "duals.pt")
    assert checkpoint.spec.widths == WIDTHS[4, 70]
    assert checkpoint.build_network().convolution("sub_mean").bias.tolist() == [-100.0, -101.0, -102.0]  # type: ignore[union-attr]
    assert set(checkpoint.dual_weights) == set(checkpoint.build_duals().state_dict())


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"head.weight": _Bomb()}, "zip.pt")
    Path("raw.pt").write_bytes(pickle.dumps(_Bomb()))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(ArtefactError):
            import_official(Path(name), "drn_s", 4)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    with pytest.raises(ArtefactError):
        import_official(path, "drn_s", 4)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save(build_network(ModelSpec("drn_xs", 4)).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ArtefactError, match=r"not drn_s x4|foreign|lacks"):
        import_official(tmp_path / "net.pt", "drn_s", 4)
    torch.save(torch.zeros(3), tmp_path / "net.pt")
    with pytest.raises(ArtefactError, match="not a state dict"):
        import_official(tmp_path / "net.pt", "drn_s", 4)


def test_tensors_that_share_memory_or_lie_otherwise_in_it_are_imported(tmp_path: Path) -> None:
    state = build_network(ModelSpec("drn_xs", 4)).state_dict()
    state["sub_mean.weight"] = state["add_mean.weight"]
    state["head.weight"] = state["head.weight"].to(memory_format=torch.channels_last)
    torch.save(state, tmp_path / "net.pt")
    checkpoint = import_official(tmp_path / "net.pt", "drn_xs", 4)
    save_checkpoint(tmp_path / "net.safetensors", checkpoint)
    assert torch.equal(load_checkpoint(tmp_path / "net.safetensors").weights["head.weight"], state["head.weight"])


@pytest.mark.parametrize("change", [Tensor.to_sparse, lambda t: t.to(torch.complex64), lambda t: t.to("meta")])
def test_tensors_that_hold_no_weights_are_refused(tmp_path: Path, change: Callable[[Tensor], Tensor]) -> None:
    state = build_network(ModelSpec("drn_xs", 4)).state_dict()
    torch.save({**state, "head.weight": change(state["head.weight"])}, tmp_path / "net.pt")
    with pytest.raises(ArtefactError, match=r"'head.weight'.*holds no weights"):
        import_official(tmp_path / "net.pt", "drn_xs", 4)


def test_a_pipe_is_refused_without_waiting_and_no_duals_are_no_list_of_duals(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(ArtefactError, match="not a file"):
        import_official(tmp_path / "pipe.pt", "drn_xs", 4)
    torch.save(build_network(ModelSpec("drn_xs", 4)).state_dict(), tmp_path / "net.pt")
    torch.save([], tmp_path / "duals.pt")
    with pytest.raises(ArtefactError, match="not a list of state dicts"):
        import_official(tmp_path / "net.pt", "drn_xs", 4, tmp_path / "duals.pt")
