"""The loop learns, stops at a NaN, validates, and keeps what it should."""

import math
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import Parent, load_checkpoint
from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.errors import ArtefactError, TrainingError, UsageError
from drc_deploy.metrics import UInt8Image
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.device import memory_checked
from drc_deploy.train.loop.journal import read_journal
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.state import load_state, save_state
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.training import fresh_start, start_from_checkpoint, train
from drc_deploy.train.loop.validation import Validation, Validator
from tests.train.interruption import interrupt_after
from tests.train.runs import OPTIONS, SPEC, assert_same_weights, train_fresh


class ScriptedValidator(Validator):
    """Returns PSNR values from a list, and remembers the weights that it was shown."""

    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)
        self.fingerprint = "scripted"
        self.heads: list[torch.Tensor] = []

    def measure(self, network: SRNetwork) -> Validation:
        self.heads.append(network.convolution("head").weight.detach().clone())
        return Validation(next(self._values), _PICTURES)


_PICTURES: tuple[tuple[str, UInt8Image], ...] = ()


def test_an_interrupted_run_ends_with_the_same_weights(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, ema=0.9, accumulate=2)
    train_fresh(photographs, options, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 4)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, options, tmp_path / "stopped.safetensors")
    assert not (tmp_path / "stopped.safetensors").exists()
    train_fresh(photographs, options, tmp_path / "stopped.safetensors")
    assert_same_weights(tmp_path / "straight.safetensors", tmp_path / "stopped.safetensors")
    assert not (tmp_path / "stopped.run" / "state.safetensors").exists()


def interrupt_a_run(photographs: Photographs, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 2)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, output)


def test_going_on_with_other_options_is_refused_unless_restarted_or_forced(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "net.safetensors"
    interrupt_a_run(photographs, output, monkeypatch)
    other = replace(OPTIONS, steps=3, ema=0.9)
    with pytest.raises(UsageError, match=r"ema 0.0 then, 0.9 now; steps 6 then, 3 now"):
        train_fresh(photographs, other, output)
    train_fresh(photographs, other, output, supervision=Supervision(force=True))
    forced = load_checkpoint(output)
    assert forced.provenance["steps"] == 3
    interrupt_a_run(photographs, output, monkeypatch)
    train_fresh(photographs, other, output, supervision=Supervision(restart=True))
    assert not torch.equal(load_checkpoint(output).weights["head.weight"], forced.weights["head.weight"])


def test_a_state_of_another_network_cannot_be_forced(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_a_run(photographs, tmp_path / "net.safetensors", monkeypatch)
    with pytest.raises(UsageError, match="scale 4 then, 8 now"):
        train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors", ModelSpec("drn_xs", 8))
    with pytest.raises(UsageError, match="another network"):
        train_fresh(
            photographs,
            OPTIONS,
            tmp_path / "net.safetensors",
            ModelSpec("drn_xs", 8),
            Supervision(force=True),
        )


def test_a_state_from_before_branches_existed_cannot_be_forced_to_have_them(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Trainer.state
    monkeypatch.setattr(Trainer, "state", lambda self: {k: v for k, v in kept(self).items() if k != "branches"})
    interrupt_a_run(photographs, tmp_path / "net.safetensors", monkeypatch)
    for branches in (True, False):
        with pytest.raises(UsageError, match="another network") if branches else nullcontext():
            train_fresh(
                photographs,
                replace(OPTIONS, branches=branches),
                tmp_path / "net.safetensors",
                supervision=Supervision(force=True),
            )


def test_training_lowers_the_loss(photographs: Photographs, tmp_path: Path) -> None:
    first = train_fresh(photographs, TrainOptions(2, 4, 8, learning_rate=1e-3), tmp_path / "a.safetensors")
    later = train_fresh(photographs, TrainOptions(60, 4, 8, learning_rate=1e-3), tmp_path / "b.safetensors")
    assert later.provenance["loss"] < 0.7 * first.provenance["loss"]


def test_duals_are_trained_further_or_replaced_when_another_kind_is_asked_for(
    photographs: Photographs, parent: Parent, tmp_path: Path
) -> None:
    before = parent.checkpoint
    tuned = train(start_from_checkpoint(parent, OPTIONS), photographs, OPTIONS, tmp_path / "tuned.safetensors")
    assert not torch.equal(tuned.dual_weights["0.dual_module.1.weight"], before.dual_weights["0.dual_module.1.weight"])
    for variant, names in (("none", 0), ("single", 3), ("wide", 4)):
        options = TrainOptions(2, 2, 8, dual=variant)  # type: ignore[arg-type]
        path = tmp_path / f"{variant}.safetensors"
        train(start_from_checkpoint(parent, options), photographs, options, path)
        assert len(load_checkpoint(path).dual_weights) == names
        load_checkpoint(path).build_duals()


def test_a_nan_loss_stops_with_a_sentence_and_keeps_the_last_good_checkpoint(
    photographs: Photographs, tmp_path: Path
) -> None:
    options = TrainOptions(50, 2, 8, learning_rate=1.0)
    with pytest.raises(TrainingError, match="loss became"):
        train_fresh(photographs, options, tmp_path / "net.safetensors", supervision=Supervision(check_every=1))
    assert not (tmp_path / "net.safetensors").exists()
    assert len(list((tmp_path / "net.run" / "checkpoints").iterdir())) >= 1
    for path in (tmp_path / "net.run" / "checkpoints").iterdir():
        load_checkpoint(path)  # which refuses weights that are not finite


def test_weights_that_are_not_finite_are_neither_saved_nor_kept_as_state(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.update

    def poisoned(trainer: Trainer, images: list[torch.Tensor]) -> None:
        original(trainer, images)
        trainer.network.convolution("head").weight.data.fill_(math.nan)

    monkeypatch.setattr(Trainer, "update", poisoned)
    with pytest.raises(TrainingError, match="weights became NaN"):
        train_fresh(photographs, TrainOptions(1, 2, 8), tmp_path / "net.safetensors")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_learning_rate_warms_up_and_follows_its_schedule() -> None:
    options = TrainOptions(steps=10_000, learning_rate=1e-3, final_learning_rate=1e-6)
    assert options.learning_rate_at(0) == pytest.approx(1e-5)
    assert options.learning_rate_at(100) == pytest.approx(1e-3)
    assert options.learning_rate_at(100 + 4950) == pytest.approx((1e-3 + 1e-6) / 2)
    assert options.learning_rate_at(10_000) == pytest.approx(1e-6)
    assert replace(options, schedule="constant").learning_rate_at(9999) == 1e-3
    assert replace(options, warm_up=0).learning_rate_at(0) == 1e-3
    assert replace(options, warm_up=1000).learning_rate_at(499) == pytest.approx(5e-4)


def test_no_learning_rate_is_nan() -> None:
    assert not any(math.isnan(TrainOptions(steps=n).learning_rate_at(0)) for n in (1, 2, 9, 10, 11))


def test_a_run_killed_after_its_last_step_still_knows_its_loss(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_fresh(photographs, OPTIONS, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr("drc_deploy.train.loop.training.measure_quality", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, tmp_path / "killed.safetensors")
    resumed = train_fresh(photographs, OPTIONS, tmp_path / "killed.safetensors")
    assert resumed.provenance["loss"] == straight.provenance["loss"]


def interrupted(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_the_best_weights_by_validation_become_the_result(photographs: Photographs, tmp_path: Path) -> None:
    validator = ScriptedValidator([20.0, 30.0, 25.0])
    supervision = Supervision(validator, check_every=2)
    result = train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors", supervision=supervision)
    assert torch.equal(result.weights["head.weight"], validator.heads[1])
    assert not torch.equal(validator.heads[1], validator.heads[2])
    assert (result.provenance["kept_step"], result.provenance["validation_psnr"]) == (4, 30.0)
    logged = [line["psnr"] for line in read_journal(tmp_path / "net.run") if line["kind"] == "validation"]
    assert logged == [20.0, 30.0, 25.0]


def test_the_best_weights_survive_an_interruption(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "net.safetensors"
    first = ScriptedValidator([30.0])
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 3)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, output, supervision=Supervision(first, check_every=2))
    second = Supervision(ScriptedValidator([20.0, 25.0]), check_every=2)
    result = train_fresh(photographs, OPTIONS, output, supervision=second)
    assert torch.equal(result.weights["head.weight"], first.heads[0])


def _flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("damage", [_flip_last_bit, Path.unlink])
def test_damage_of_the_best_weights_is_found_before_training_goes_on(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    output = tmp_path / "net.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 3)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, output, supervision=Supervision(ScriptedValidator([30.0]), check_every=2))
    damage(tmp_path / "net.run/best.safetensors")
    monkeypatch.setattr(Trainer, "update", None)  # no update is made
    with pytest.raises(ArtefactError, match=r"best\.safetensors") as caught:
        train_fresh(photographs, OPTIONS, output, supervision=Supervision(ScriptedValidator([20.0]), check_every=2))
    assert "--restart" in caught.value.hint


@pytest.mark.parametrize("moment", ["validation", "last step"])
def test_a_validation_that_a_signal_cut_off_is_made_up_for(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The averaged weights are in place while Ctrl-C comes: the state must hold the others."""
    options = replace(OPTIONS, ema=0.9)
    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    values = [20.0, 30.0, 25.0] if moment == "validation" else [20.0, 25.0, 30.0]
    train_fresh(photographs, options, straight, supervision=Supervision(ScriptedValidator(values), check_every=2))
    validator = ScriptedValidator(values)
    with monkeypatch.context() as patch:
        if moment == "validation":
            interrupt_after(patch, ScriptedValidator, "measure", 1)
        else:
            interrupt_at_the_end_of_update(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, options, broken, supervision=Supervision(validator, check_every=2))
    result = train_fresh(photographs, options, broken, supervision=Supervision(validator, check_every=2))
    assert_same_weights(straight, broken)
    assert result.provenance["validation_psnr"] == 30.0
    assert result.provenance["loss"] == load_checkpoint(straight).provenance["loss"]


def interrupt_at_the_end_of_update(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Press Ctrl-C while an update runs, so that it is heard after it."""
    original = Trainer.update

    def update(trainer: Trainer, images: list[torch.Tensor]) -> None:
        original(trainer, images)
        if trainer.step == number:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "update", update)


def test_another_validation_folder_is_another_run(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_a_run(photographs, tmp_path / "net.safetensors", monkeypatch)
    supervision = Supervision(ScriptedValidator([1.0] * 3), check_every=2)
    with pytest.raises(UsageError, match="val None then, scripted now"):
        train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors", supervision=supervision)


def test_moments_keep_the_layout_of_their_weights_over_a_resume(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        start = fresh_start(SPEC, OPTIONS)
        return Trainer(start.network, start.duals, OPTIONS)

    first, second = trainer(), trainer()
    first.update([torch.rand(2, 3, 8 << k, 8 << k) * 255 for k in range(3)])
    save_state(tmp_path / "state", {"options": {}, "trainer": first.state()})
    state = load_state(tmp_path / "state", {})
    assert state
    second.restore(state["trainer"])
    for parameter, moments in second.optimizer.state.items():
        assert moments["exp_avg"].stride() == parameter.stride()


def test_precision_may_change_where_it_is_forced(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_a_run(photographs, tmp_path / "net.safetensors", monkeypatch)
    options = replace(OPTIONS, precision="fp16")
    train_fresh(photographs, options, tmp_path / "net.safetensors", supervision=Supervision(force=True))


def test_only_the_latest_checkpoints_are_kept_and_an_old_run_makes_room(
    photographs: Photographs, tmp_path: Path
) -> None:
    folder = tmp_path / "net.run" / "checkpoints"
    supervision = Supervision(check_every=1, keep=2)
    train_fresh(photographs, replace(OPTIONS, steps=12), tmp_path / "net.safetensors", supervision=supervision)
    assert sorted(path.name for path in folder.iterdir()) == ["step-11.safetensors", "step-12.safetensors"]
    train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors", supervision=supervision)
    assert sorted(path.name for path in folder.iterdir()) == ["step-5.safetensors", "step-6.safetensors"]
    assert read_checkpoint_info(folder / "step-6.safetensors").provenance["step"] == 6
    assert_same_weights(folder / "step-6.safetensors", tmp_path / "net.safetensors")


def test_averaged_weights_are_the_result(photographs: Photographs, tmp_path: Path) -> None:
    """With this few steps the decay is (1 + n) / (10 + n); the average follows from the weights after each update."""
    seen: list[torch.Tensor] = []

    class Watching(ScriptedValidator):
        def measure(self, network: SRNetwork) -> Validation:
            seen.append(network.convolution("head").weight.detach().clone())
            return Validation(float(len(seen)), ())

    plain = ScriptedValidator([float(n) for n in range(6)])
    train_fresh(photographs, OPTIONS, tmp_path / "a.safetensors", supervision=Supervision(plain, check_every=1))
    options = replace(OPTIONS, ema=0.999)
    train_fresh(photographs, options, tmp_path / "b.safetensors", supervision=Supervision(Watching([]), check_every=1))
    average = fresh_start(SPEC, OPTIONS).network.convolution("head").weight.detach()
    for step, weight in enumerate(plain.heads, 1):
        decay = (1 + step) / (10 + step)
        average = decay * average + (1 - decay) * weight
        torch.testing.assert_close(seen[step - 1], average)
    assert torch.equal(load_checkpoint(tmp_path / "b.safetensors").weights["head.weight"], seen[-1])


def test_the_journal_holds_speed_and_the_parts_of_the_loss(photographs: Photographs, tmp_path: Path) -> None:
    train_fresh(photographs, replace(OPTIONS, steps=25), tmp_path / "net.safetensors")
    lines = [line for line in read_journal(tmp_path / "net.run") if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [20, 25]
    for line in lines:
        assert line["loss"] == pytest.approx(line["primal"] + 0.1 * line["dual"], rel=1e-5)
        assert line["images_per_second"] > 0
        assert 0 < line["data_share"] < 1


def test_a_lack_of_memory_is_a_sentence() -> None:
    with pytest.raises(TrainingError, match="too little memory"), memory_checked():
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="something else"), memory_checked():
        raise RuntimeError("something else")
