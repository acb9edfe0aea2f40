"""Runs that last some minutes: the schedule against its closed form on a clock of the test's own."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.errors import UsageError
from drc_deploy.images.reading import read_rgb
from drc_deploy.locate import sample_images
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop import clock, distributed
from drc_deploy.train.loop.journal import read_journal
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.run_options import TrainOptions
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.validation import Validation, Validator
from tests.train.data.photograph_files import photographs_of
from tests.train.interruption import interrupt_after
from tests.train.processes import run_two
from tests.train.runs import assert_same_weights, train_fresh

OPTIONS = TrainOptions(minutes=0.5, batch=2, patch=8, learning_rate=1e-3, warm_up=0)
"""30 seconds."""


class Machine:
    """A machine on which an update takes a given time, and every other thing none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, update_s: float) -> None:
        self.now, self.update_s = 100.0, update_s
        self.rates: list[float] = []
        original = Trainer.update

        def update(trainer: Trainer, images: list[torch.Tensor]) -> None:
            original(trainer, images)
            self.rates.append(trainer.optimizer.param_groups[0]["lr"])
            self.now += self.update_s

        monkeypatch.setattr(Trainer, "update", update)
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)


def cosine(phase: float) -> float:
    """The schedule of ``OPTIONS``."""
    return 1e-7 + (1e-3 - 1e-7) * (1 + math.cos(math.pi * phase)) / 2


def test_the_learning_rate_follows_the_share_of_the_time_and_the_run_ends_with_it(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 4.0)
    result = train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors")
    assert machine.rates == pytest.approx([cosine(4 * n / 30) for n in range(8)])  # 28 s are not yet 30
    assert (result.provenance["minutes"], result.provenance["steps"]) == (0.5, 8)
    assert result.provenance["seconds"] == 32.0
    (line,) = read_journal(tmp_path / "net.run")
    assert (line["step"], line["seconds"]) == (8, 32.0)
    assert line["learning_rate"] == machine.rates[-1]


def test_a_run_goes_on_at_its_phase_on_a_faster_machine(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 4.0)
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 3)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors")
    machine.now, machine.update_s = 5.0, 2.0  # another machine: its clock began elsewhere
    train_fresh(photographs, OPTIONS, tmp_path / "net.safetensors")
    seconds = [0, 4, 8, *range(12, 30, 2)]
    assert machine.rates == pytest.approx([cosine(s / 30) for s in seconds])


def test_an_interrupted_run_ends_with_the_same_weights_where_updates_take_the_same_time(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, 4.0)
    train_fresh(photographs, OPTIONS, tmp_path / "straight.safetensors")
    with monkeypatch.context() as patch:
        interrupt_after(patch, Trainer, "update", 5)
        with pytest.raises(KeyboardInterrupt):
            train_fresh(photographs, OPTIONS, tmp_path / "broken.safetensors")
    train_fresh(photographs, OPTIONS, tmp_path / "broken.safetensors")
    assert_same_weights(tmp_path / "straight.safetensors", tmp_path / "broken.safetensors")


class SlowValidator(Validator):
    """Takes an hour."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self.fingerprint = machine, "slow"

    def measure(self, network: SRNetwork) -> Validation:
        self._machine.now += 3600
        return Validation(20.0, ())


def test_validation_is_on_top_and_comes_every_twentieth_of_the_time(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 0.05)  # 600 updates
    options = replace(OPTIONS, batch=1, dual="none")
    supervision = Supervision(SlowValidator(machine), keep=0, save_every_s=1e9)
    result = train_fresh(photographs, options, tmp_path / "net.safetensors", supervision=supervision)
    assert result.provenance["steps"] in (600, 601)  # sums of 0.05
    checked = [line["step"] for line in read_journal(tmp_path / "net.run") if line["kind"] == "validation"]
    assert checked[-1] == result.provenance["steps"]
    assert checked[:-1] == pytest.approx(list(range(30, 600, 30)), abs=len(checked))


def test_warm_up_is_in_steps_and_a_tenth_of_the_time_at_most() -> None:
    asked = replace(OPTIONS, warm_up=4)
    assert [asked.learning_rate_at(step, 0.0) for step in (0, 1, 3, 9)] == pytest.approx([2.5e-4, 5e-4, 1e-3, 1e-3])
    assert asked.learning_rate_at(1, 15.0) == pytest.approx(0.5 * cosine(0.5))
    default = replace(OPTIONS, warm_up=None)
    assert default.learning_rate_at(0, 0.0) == pytest.approx(1e-5)
    assert default.learning_rate_at(49, 0.0) == pytest.approx(5e-4)
    assert default.learning_rate_at(2, 1.5) == pytest.approx(0.5 * cosine(0.05))  # a slow machine: half of a tenth
    assert default.learning_rate_at(2, 3.0) == pytest.approx(cosine(0.1))
    assert replace(asked, schedule="constant").learning_rate_at(9, 29.0) == 1e-3


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ({"steps": 5, "minutes": 1.0}, "either steps or minutes"),
        ({}, "either steps or minutes"),
        ({"minutes": 0.0}, "minutes must be"),
        ({"minutes": math.nan}, "minutes must be"),
        ({"minutes": math.inf}, "minutes must be"),
        ({"minutes": 1.0, "warm_up": -1}, "warm_up must be"),
    ],
)
def test_impossible_lengths_are_refused(length: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainOptions(**length)  # type: ignore[arg-type]


def test_the_host_is_one_update_ahead_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events stand in for a GPU: the one of the update before is waited for, never the latest."""
    waited: list[int] = []
    recorded: list[object] = []

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            self.number = len(recorded)
            assert blocking  # a host that spins would take a core from what cuts patches

        def record(self) -> None:
            recorded.append(self)

        def synchronize(self) -> None:
            waited.append(self.number)

    monkeypatch.setattr(clock, "training_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    pace = clock.Pace()
    for _ in range(3):
        pace.keep()
    assert (len(recorded), waited) == (3, [0, 1])


def _process(rank: int, _size: int, folder: Path) -> None:
    """Train where the clocks of the processes differ; leave what they saw."""
    photographs = photographs_of("crops", [read_rgb(path)[60:156, 60:156] for path in sample_images()])
    with distributed.process_group(), pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(monkeypatch, (4.0, 11.0)[rank])
        train_fresh(photographs, OPTIONS, folder / "net.safetensors")
        torch.save(machine.rates, folder / f"{rank}.pt")


def test_processes_go_by_the_clock_of_the_first(tmp_path: Path) -> None:
    run_two(_process, tmp_path)
    rates = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert rates[0] == rates[1]
    assert rates[0] == pytest.approx([cosine(4 * n / 30) for n in range(8)])
    assert read_checkpoint_info(tmp_path / "net.safetensors").provenance["steps"] == 8
