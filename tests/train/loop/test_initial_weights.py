"""Foreign weights go into a new network tensor by tensor; what does not fit stays bit for bit as it was."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.errors import ArtefactError
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.loop.initial_weights import InitReport, load_initial_weights
from drc_deploy.train.loop.run_options import DualVariant, TrainOptions
from drc_deploy.train.loop.training import start_from_weights
from tests.models.published import WIDTHS

XS = ModelSpec("drn_xs", 4)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def write_checkpoint(path: Path, spec: ModelSpec) -> tuple[SRNetwork, nn.ModuleList]:
    network = build_network(spec)
    duals = network.build_duals()
    save_checkpoint(path, Checkpoint.of(network, duals))
    return network, duals


def check_transfer(before: dict[str, Tensor], source: dict[str, Tensor], after: dict[str, Tensor]) -> int:
    """Compare by definition: the source's tensor where name and shape agree, else the tensor from before."""
    copied = 0
    for name, tensor in after.items():
        fits = name in source and source[name].shape == tensor.shape
        assert torch.equal(tensor, source[name] if fits else before[name]), name
        copied += fits
    return copied


@pytest.mark.parametrize(
    ("there", "here", "difference"),
    [
        (ModelSpec("drn_s", 4), ModelSpec("drn_l", 4), "drn_s x4 into drn_l x4"),
        (ModelSpec("drn_s", 4), ModelSpec("drn_s", 8), "drn_s x4 into drn_s x8"),
        (ModelSpec("drn_s", 4, WIDTHS[4, 70]), ModelSpec("drn_s", 4), "other widths"),
        (ModelSpec("drn_s", 4), ModelSpec("drn_s", 4, WIDTHS[4, 50]), "other widths"),
        (XS, ModelSpec("drn_s", 4), "drn_xs x4 into drn_s x4"),
    ],
)
def test_what_fits_is_copied_and_the_rest_untouched(
    tmp_path: Path, there: ModelSpec, here: ModelSpec, difference: str
) -> None:
    source, source_duals = write_checkpoint(tmp_path / "net.safetensors", there)
    network = build_network(here)
    duals = network.build_duals()
    before, before_duals = copy_of(network), copy_of(duals)
    report = load_initial_weights(network, duals, tmp_path / "net.safetensors")
    copied = check_transfer(before, source.state_dict(), network.state_dict())
    copied_duals = check_transfer(before_duals, source_duals.state_dict(), duals.state_dict())
    assert 0 < copied < len(before)
    assert (copied, copied_duals) == (len(report.network.matched), len(report.duals.matched))
    assert (report.network.total, report.duals.total) == (len(before), len(before_duals))
    assert f"net.safetensors ({difference}): {copied} of {len(before)} tensors" in report.summary


def test_the_same_network_gives_the_same_outputs(tmp_path: Path) -> None:
    source, source_duals = write_checkpoint(tmp_path / "net.safetensors", XS)
    network = build_network(XS)
    duals = network.build_duals()
    report = load_initial_weights(network, duals, tmp_path / "net.safetensors")
    image = torch.rand(1, 3, 12, 12) * 255
    for ours, theirs in zip(network(image), source(image), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(duals[0](image), source_duals[0](image))
    assert report.summary == "net.safetensors: 88 of 88 tensors; duals 4 of 4"
    assert report.listing == report.summary
    assert report.sha256 == hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("key", [None, "state_dict", "model", "params", "params_ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files_of_every_layout_are_read(tmp_path: Path, key: str | None, prefix: str) -> None:
    source = build_network(XS)
    state: dict[str, Any] = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "net.pth")
    network = build_network(XS)
    before_duals = copy_of(duals := network.build_duals())
    report = load_initial_weights(network, duals, tmp_path / "net.pth")
    check_transfer({}, source.state_dict(), network.state_dict())
    check_transfer(before_duals, {}, duals.state_dict())
    assert report.summary == "net.pth: 88 of 88 tensors; duals 0 of 4"


def test_ema_weights_go_before_those_of_the_last_update(tmp_path: Path) -> None:
    last, mean = build_network(XS).state_dict(), build_network(XS).state_dict()
    torch.save({"params": last, "params_ema": mean}, tmp_path / "net.pth")
    network = build_network(XS)
    load_initial_weights(network, nn.ModuleList(), tmp_path / "net.pth")
    assert torch.equal(network.state_dict()["head.weight"], mean["head.weight"])


def test_a_list_of_duals_replaces_those_of_the_source(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "net.safetensors", XS)
    others = build_network(XS).build_duals()
    torch.save([dual.state_dict() for dual in others], tmp_path / "duals.pt")
    network = build_network(XS)
    duals = network.build_duals()
    report = load_initial_weights(network, duals, tmp_path / "net.safetensors", tmp_path / "duals.pt")
    assert check_transfer({}, others.state_dict(), duals.state_dict()) == 4
    assert report.summary == "net.safetensors: 88 of 88 tensors; duals 4 of 4 from duals.pt"
    assert report.duals_sha256 == hashlib.sha256((tmp_path / "duals.pt").read_bytes()).hexdigest()


def load_state(tmp_path: Path, state: dict[str, Any], duals: nn.ModuleList | None = None) -> InitReport:
    torch.save(state, tmp_path / "net.pt")
    network = build_network(XS)
    before = copy_of(network)
    try:
        return load_initial_weights(network, duals or nn.ModuleList(), tmp_path / "net.pt")
    except ArtefactError:
        assert check_transfer(before, {}, network.state_dict()) == 0
        raise


def test_the_report_names_every_tensor_once_and_lists_ten_of_a_group(tmp_path: Path) -> None:
    state: dict[str, Any] = dict(build_network(XS).state_dict())
    state["head.weight"] = torch.zeros(16, 3, 3, 3)
    del state["head.bias"]
    state |= {f"extra.{i}": torch.zeros(1, dtype=torch.int64) for i in range(13)}
    report = load_state(tmp_path, state)
    assert report.summary == ("net.pt: 86 of 88 tensors, 1 of other shape, 1 not in the file, 13 more in the file")
    assert "head.weight (16, 3, 3, 3) there, (8, 3, 3, 3) here" in report.listing
    assert report.network.missing == ("head.bias",)
    lines = report.listing.splitlines()
    assert sum("extra." in line for line in lines) == 10
    assert lines[-1].strip() == "and 3 more"


def test_half_precision_is_widened_exactly(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in build_network(XS).state_dict().items()}
    torch.save(half, tmp_path / "net.pt")
    network = build_network(XS)
    load_initial_weights(network, nn.ModuleList(), tmp_path / "net.pt")
    check_transfer({}, {name: tensor.float() for name, tensor in half.items()}, network.state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = build_network(XS).state_dict()
    state["head.weight"] = state["head.weight"].double()
    state["head.weight"][0, 0, 0, 0] = value
    with pytest.raises(ArtefactError, match=r"'head\.weight' holds NaN or infinite"):
        load_state(tmp_path, state)


def test_tensors_of_no_network_here_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no tensor of .*net\.pt fits drn_xs x4"):
        load_state(tmp_path, {"conv.weight": torch.zeros(3, 3, 3, 3)})
    with pytest.raises(ArtefactError, match="holds no weights"):
        load_state(tmp_path, {**build_network(XS).state_dict(), "head.bias": torch.zeros(8, dtype=torch.int32)})
    with pytest.raises(ArtefactError, match="not a state dict"):
        load_state(tmp_path, {"model": {"head": 3}})


def test_duals_of_another_shape_are_refused_if_given_and_nothing_is_copied(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "net.safetensors", XS)
    torch.save([dual.state_dict() for dual in build_network(ModelSpec("drn_s", 4)).build_duals()], tmp_path / "d.pt")
    network = build_network(XS)
    before = copy_of(network)
    with pytest.raises(ArtefactError, match="fits the dual networks"):
        load_initial_weights(network, network.build_duals(), tmp_path / "net.safetensors", tmp_path / "d.pt")
    check_transfer(before, {}, network.state_dict())


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_code_and_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"head.weight": _Bomb()}}, "zip.pt")
    Path("raw.pth").write_bytes(pickle.dumps(_Bomb()))
    Path("empty.pt").write_bytes(b"")
    Path("text.safetensors").write_text("weights")
    network = build_network(XS)
    for name in ("zip.pt", "raw.pth", "empty.pt", "text.safetensors", "missing.pt", "missing.safetensors", "."):
        with pytest.raises(ArtefactError):
            load_initial_weights(network, nn.ModuleList(), Path(name))
    for name in ("zip.pt", "raw.pth"):
        with pytest.raises(ArtefactError):
            load_initial_weights(network, nn.ModuleList(), Path("empty.pt"), Path(name))
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("source", "has_duals", "dual", "fitted"),
    [
        (XS, False, "progressive", True),
        (XS, True, "progressive", False),
        (XS, False, "none", False),
        (ModelSpec("drn_xs", 4, (1,) * 12), False, "progressive", False),
    ],
)
def test_fresh_duals_are_fitted_next_to_a_network_that_is_trained(
    tmp_path: Path, source: ModelSpec, has_duals: bool, dual: DualVariant, fitted: bool
) -> None:
    network = build_network(source)
    save_checkpoint(tmp_path / "net.safetensors", Checkpoint.of(network, network.build_duals() if has_duals else None))
    start, _ = start_from_weights(XS, TrainOptions(2, dual=dual), tmp_path / "net.safetensors")
    assert start.fit_duals is fitted
