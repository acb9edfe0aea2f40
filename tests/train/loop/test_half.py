"""Results in float16: NumPy's rounding of what a run without --half leaves, and measured as they are in the file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from drc_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from drc_deploy.errors import ArtefactError
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.validation import Validation, Validator
from tests.train.interruption import interrupt_after
from tests.train.runs import OPTIONS, assert_same_weights, train_fresh

HALF = replace(OPTIONS, half=True)


class Watching(Validator):
    """Remembers the weights that it was shown."""

    def __init__(self) -> None:
        self.fingerprint = "watching"
        self.heads: list[NDArray[np.float32]] = []

    def measure(self, network: SRNetwork) -> Validation:
        self.heads.append(network.convolution("head").weight.detach().numpy().copy())
        return Validation(float(len(self.heads)), ())


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("validated", [False, True])
def test_the_file_holds_numpys_rounding_of_the_weights(
    photographs: Photographs, tmp_path: Path, ema: float, validated: bool
) -> None:
    watching = Watching()
    supervision = Supervision(watching if validated else None, check_every=3)
    train_fresh(photographs, replace(OPTIONS, ema=ema), tmp_path / "full.safetensors")
    result = train_fresh(photographs, replace(HALF, ema=ema), tmp_path / "half.safetensors", supervision=supervision)
    full, half = (load_file(tmp_path / f"{name}.safetensors") for name in ("full", "half"))
    assert full.keys() == half.keys()
    for name, tensor in full.items():
        assert half[name].dtype == np.float16
        np.testing.assert_array_equal(half[name], tensor.astype(np.float16), err_msg=name)
    assert np.any(half["primal.head.weight"] != full["primal.head.weight"])
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in loaded.weights.values())
    assert all(torch.equal(tensor, result.weights[name]) for name, tensor in loaded.weights.items())
    assert loaded.provenance["half"] is True
    if validated:
        np.testing.assert_array_equal(watching.heads[-1], half["primal.head.weight"].astype(np.float32))
        for path in (tmp_path / "half.run").rglob("*.safetensors"):
            with safe_open(path, framework="np") as file:
                assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


def test_rounding_changes_no_update_and_an_interrupted_run_ends_with_the_same_weights(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rounded weights are in place while Ctrl-C comes: the state must hold the others."""
    options = replace(HALF, ema=0.9)
    train_fresh(photographs, options, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Watching, "measure", 1)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(
                photographs, options, tmp_path / "b.safetensors", supervision=Supervision(Watching(), check_every=2)
            )
    supervision = Supervision(Watching(), check_every=2)
    train_fresh(photographs, options, tmp_path / "b.safetensors", supervision=supervision)
    assert_same_weights(tmp_path / "straight.safetensors", tmp_path / "b.safetensors")


def test_a_weight_that_float16_cannot_hold_is_refused(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.update

    def grown(trainer: Trainer, images: list[torch.Tensor]) -> None:
        original(trainer, images)
        trainer.network.convolution("head").weight.data.fill_(65520.0)  # the first that rounds to infinity

    monkeypatch.setattr(Trainer, "update", grown)
    with pytest.raises(ArtefactError, match=r"'network.head.weight' is too large for float16") as caught:
        train_fresh(photographs, replace(HALF, steps=1), tmp_path / "net.safetensors")
    assert "--half" in caught.value.hint
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_checkpoint_too_large_for_float16_is_not_written(tmp_path: Path) -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    network.convolution("head").weight.data[0, 0, 0, 0] = -7e4
    with pytest.raises(ArtefactError, match="too large for float16"):
        save_checkpoint(tmp_path / "net.safetensors", Checkpoint.of(network), half=True)
    assert not list(tmp_path.iterdir())
