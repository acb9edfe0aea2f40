"""The loop learns, resumes bit for bit, and stops at a NaN."""

import math
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.errors import TrainingError, UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.train.data import Photographs
from drc_deploy.train.device import memory_checked
from drc_deploy.train.loop import Trainer, TrainOptions
from drc_deploy.train.losses import dual_regression_losses
from drc_deploy.train.training import finetune, train_from_scratch
from tests.train.interruption import interrupt_after

SPEC = ModelSpec("drn_xs", 4)
OPTIONS = TrainOptions(steps=6, batch=2, patch=8, learning_rate=1e-3)


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = load_checkpoint(one), load_checkpoint(other)
    for name, tensor in {**a.weights, **a.dual_weights}.items():
        assert torch.equal(tensor, {**b.weights, **b.dual_weights}[name]), name


def test_an_interrupted_run_ends_with_the_same_weights(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 4)
        with pytest.raises(KeyboardInterrupt):
            train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "stopped.safetensors")
    assert not (tmp_path / "stopped.safetensors").exists()
    train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "stopped.safetensors")
    assert_same_weights(tmp_path / "straight.safetensors", tmp_path / "stopped.safetensors")
    assert not list((tmp_path / ".state").iterdir())


def test_going_on_with_other_options_is_refused_unless_restarted(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "net.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 2)
        with pytest.raises(KeyboardInterrupt):
            train_from_scratch(SPEC, photographs, OPTIONS, output)
    other = TrainOptions(steps=3, batch=2, patch=8, learning_rate=1e-3)
    with pytest.raises(UsageError, match="steps 6 then, 3 now"):
        train_from_scratch(SPEC, photographs, other, output)
    train_from_scratch(SPEC, photographs, other, output, restart=True)
    assert load_checkpoint(output).provenance["steps"] == 3


def test_training_lowers_the_loss(photographs: Photographs, tmp_path: Path) -> None:
    first = train_from_scratch(SPEC, photographs, TrainOptions(2, 4, 8, learning_rate=1e-3), tmp_path / "a.safetensors")
    later = train_from_scratch(
        SPEC, photographs, TrainOptions(60, 4, 8, learning_rate=1e-3), tmp_path / "b.safetensors"
    )
    assert later.provenance["loss"] < 0.7 * first.provenance["loss"]


def test_duals_learn_with_the_network_and_are_left_out_at_weight_zero(
    photographs: Photographs, parent: Path, tmp_path: Path
) -> None:
    before = load_checkpoint(parent)
    tuned = finetune(parent, photographs, OPTIONS, tmp_path / "tuned.safetensors")
    assert not torch.equal(tuned.dual_weights["0.dual_module.1.weight"], before.dual_weights["0.dual_module.1.weight"])
    alone = TrainOptions(2, 2, 8, dual_weight=0)
    assert not finetune(parent, photographs, alone, tmp_path / "alone.safetensors").dual_weights


def test_a_nan_loss_stops_with_a_sentence_and_no_checkpoint(photographs: Photographs, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss became"):
        train_from_scratch(SPEC, photographs, TrainOptions(50, 2, 8, learning_rate=1.0), tmp_path / "net.safetensors")
    assert not (tmp_path / "net.safetensors").exists()


def test_losses_match_their_formula() -> None:
    outputs = [torch.rand(2, 3, 4 * k, 4 * k) for k in (1, 2, 4)]
    targets = [torch.rand_like(o) for o in outputs]
    halve = torch.nn.ModuleList(torch.nn.AvgPool2d(2) for _ in range(2))
    losses = dual_regression_losses(outputs, targets, halve)
    primal = sum(float((o - t).abs().mean()) for o, t in zip(outputs, targets, strict=True))
    dual = sum(float((halve[i](outputs[i + 1]) - targets[i]).abs().mean()) for i in range(2))
    assert float(losses.primal) == pytest.approx(primal)
    assert float(losses.total(0.1)) == pytest.approx(primal + 0.1 * dual)


def test_learning_rate_warms_up_and_ends_at_its_floor() -> None:
    options = TrainOptions(steps=10_000, learning_rate=1e-3, final_learning_rate=1e-6)
    assert options.learning_rate_at(0) == pytest.approx(1e-5)
    assert options.learning_rate_at(100) == pytest.approx(1e-3)
    assert options.learning_rate_at(100 + 4950) == pytest.approx((1e-3 + 1e-6) / 2)
    assert options.learning_rate_at(10_000) == pytest.approx(1e-6)


@pytest.mark.parametrize("field", ["steps", "batch", "patch", "learning_rate"])
def test_impossible_options_are_refused(field: str) -> None:
    with pytest.raises(UsageError, match=field):
        TrainOptions(**{"steps": 1, field: 0})


def test_no_learning_rate_is_nan() -> None:
    assert not any(math.isnan(TrainOptions(steps=n).learning_rate_at(0)) for n in (1, 2, 9, 10, 11))


def test_a_run_killed_after_its_last_step_still_knows_its_loss(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr("drc_deploy.train.training.measure_psnr", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "killed.safetensors")
    resumed = train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "killed.safetensors")
    assert resumed.provenance["loss"] == straight.provenance["loss"]


def interrupted(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_weights_that_are_not_finite_are_neither_saved_nor_kept_as_state(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.update

    def poisoned(trainer: Trainer, images: list[torch.Tensor]) -> float:
        loss = original(trainer, images)
        trainer.network.convolution("head").weight.data.fill_(math.nan)
        return loss

    monkeypatch.setattr(Trainer, "update", poisoned)
    options = TrainOptions(steps=1, batch=2, patch=8)
    with pytest.raises(TrainingError, match="weights became NaN"):
        train_from_scratch(SPEC, photographs, options, tmp_path / "net.safetensors")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_unfinished_run_of_another_scale_is_not_gone_on_with(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 2)
        with pytest.raises(KeyboardInterrupt):
            train_from_scratch(SPEC, photographs, OPTIONS, tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match="scale 4 then, 8 now"):
        train_from_scratch(ModelSpec("drn_xs", 8), photographs, OPTIONS, tmp_path / "net.safetensors")


def test_a_lack_of_memory_is_a_sentence() -> None:
    with pytest.raises(TrainingError, match="too little memory"), memory_checked():
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="something else"), memory_checked():
        raise RuntimeError("something else")
