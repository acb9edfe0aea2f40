"""The teacher's loss by hand, frozen teachers, and resuming."""

import copy
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, Parent, save_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.distillation import LastFeatures, Teacher, load_teacher
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import DualRegression, Trainer
from drc_deploy.train.loop.training import Start, train
from tests.train.interruption import interrupt_after
from tests.train.runs import assert_same_weights

OPTIONS = TrainOptions(steps=6, batch=2, patch=8, ema=0.9)


def teacher(weight: float = 1.0) -> Teacher:
    torch.manual_seed(5)
    return Teacher(build_network(ModelSpec("drn_xs", 4)), weight, "a")


def start(weight: float = 1.0) -> Start:
    torch.manual_seed(0)
    student = build_network(ModelSpec("drn_xs", 4, (4, 8, *(16,) * 10)))
    return Start(student, student.build_duals(), teacher=teacher(weight))


def test_the_loss_is_that_of_channel_means_before_the_last_convolution() -> None:
    lr = torch.rand(2, 3, 6, 8) * 255
    student = start().network
    features = LastFeatures(student)
    student(lr)
    reads = student._decode(lr)[-1]  # type: ignore[operator]
    taken = features.take()
    assert torch.equal(taken, reads)
    guide = teacher()
    theirs = guide.network._decode(lr)[-1]  # type: ignore[operator]
    expected = ((reads.sum(dim=1) / reads.shape[1] - theirs.sum(dim=1) / theirs.shape[1]) ** 2).mean()
    torch.testing.assert_close(guide(taken, lr), expected)
    assert float(guide(theirs.detach(), lr)) == 0


def test_a_student_that_is_its_teacher_has_no_loss_with_a_second_cycle_either() -> None:
    """That cycle runs the student again, on what the duals make of the target."""
    guide = teacher()
    duals = guide.network.build_duals()
    student = DualRegression(copy.deepcopy(guide.network), duals, hr_cycle=True, precision="fp32", teacher=guide)
    images = [torch.rand(2, 3, 8 << k, 8 << k) * 255 for k in range(3)]
    for _ in range(2):
        *_, distillation = student(images)
        assert float(distillation.detach()) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_student_learns_and_the_teacher_does_not(precision: str, accumulate: int) -> None:
    begin = start(weight=3.0)
    assert begin.teacher is not None
    before = {name: tensor.clone() for name, tensor in begin.teacher.network.state_dict().items()}
    options = TrainOptions(steps=4, batch=2, patch=8, accumulate=accumulate, precision=precision)  # type: ignore[arg-type]
    trainer = Trainer(begin.network, begin.duals, options, begin.teacher)
    images = [torch.rand(2, 3, 8 << k, 8 << k) * 255 for k in range(3)]
    for _ in range(2):
        trainer.update(images)
    losses = trainer.take_losses()
    assert losses is not None
    assert losses["loss"] == pytest.approx(losses["primal"] + 0.1 * losses["dual"] + 3 * losses["distillation"])
    assert losses["distillation"] > 0
    for name, tensor in begin.teacher.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any("teacher" in name for name in trainer.state()["network"])


def test_with_a_weight_the_features_come_closer() -> None:
    images = [torch.rand(2, 3, 8 << k, 8 << k) * 255 for k in range(3)]
    ends = []
    for weight in (0.0, 100.0):
        begin = start(weight)
        options = TrainOptions(steps=20, batch=2, patch=8, learning_rate=1e-3)
        trainer = Trainer(begin.network, begin.duals, options, begin.teacher)
        for _ in range(20):
            trainer.update(images)
        trainer.take_losses()
        trainer.update(images)
        losses = trainer.take_losses()
        assert losses is not None
        ends.append(losses["distillation"])
    assert ends[1] < 0.5 * ends[0]


def test_a_stopped_run_with_a_teacher_ends_the_same(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(start(), photographs, OPTIONS, tmp_path / "a.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 3)
        with pytest.raises(KeyboardInterrupt):
            train(start(), photographs, OPTIONS, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="teacher"):
        train(start(weight=2.0), photographs, OPTIONS, tmp_path / "b.safetensors")
    result = train(start(), photographs, OPTIONS, tmp_path / "b.safetensors")
    assert_same_weights(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert result.provenance["teacher"] == {"sha256": "a", "weight": 1.0}


def test_teachers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x8.safetensors", Checkpoint.of(build_network(ModelSpec("drn_xs", 8))))
    parent = Parent.read(tmp_path / "x8.safetensors")
    with pytest.raises(UsageError, match="is for x8"):
        load_teacher(parent, scale=4)
    with pytest.raises(UsageError, match="weight"):
        load_teacher(parent, scale=8, weight=-1)
