"""The journal survives a killed run, is read back by TensorBoard itself, and says what is wrong."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.train.loop.journal import GrowingFile, Journal, find_run, read_journal
from tests.patience import PATIENCE_S

LINE = '{"kind": "train", "step": 1, "time": "2026-01-01T00:00:00+00:00", "loss": 1.0}'
GARBAGE = ("", "no json", "[]", "{}", LINE[:-1], LINE.replace("1,", "1.5,"), LINE.replace("1.0", '"1.0"'))


def write_steps(journal: Journal, first: int, last: int) -> None:
    for step in range(first, last + 1):
        journal.record(step, {"loss": 1 / step, "learning_rate": 1e-4})
        if step % 2 == 0:
            picture = np.full((4, 12, 3), (step, 0, 255), np.uint8)
            journal.validated(step, 20.0 + step, [("bird", picture)])


def without_time(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]


def read_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_a_killed_and_resumed_run_leaves_the_same_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "straight", step=0) as journal:
        write_steps(journal, 1, 9)
    with Journal(tmp_path / "killed", step=0) as journal:
        write_steps(journal, 1, 6)
    with (tmp_path / "killed" / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "st')
    with Journal(tmp_path / "killed", step=4) as journal:
        write_steps(journal, 5, 9)
    straight, killed = read_journal(tmp_path / "straight"), read_journal(tmp_path / "killed")
    assert without_time(killed) == without_time(straight)
    events = [read_events(tmp_path / name) for name in ("straight", "killed")]
    for tag in ("train/loss", "validation/psnr"):
        one, other = ([(e.step, e.value) for e in accumulator.Scalars(tag)] for accumulator in events)
        assert one == other
    assert [e.step for e in events[1].Images("validation/bird")] == [2, 4, 6, 8]


def test_tensorboard_reads_what_was_recorded(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (5, 15, 3), np.uint8)
    with Journal(tmp_path, step=0) as journal:
        journal.record(3, {"loss": 7.25, "primal": 7.0})
        journal.validated(3, 31.5, [("bird", picture)])
    events = read_events(tmp_path)
    assert events.Tags()["scalars"] == ["train/loss", "train/primal", "validation/psnr"]
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(3, 7.25)]
    (image,) = events.Images("validation/bird")
    decoded = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert (image.step, image.height, image.width) == (3, 5, 15)
    np.testing.assert_array_equal(decoded[:, :, ::-1], picture)


def test_a_line_has_kind_step_time_and_values(tmp_path: Path) -> None:
    with Journal(tmp_path, step=0) as journal:
        journal.record(20, {"loss": np.float32(2.5), "images_per_second": 100})
    entry = json.loads((tmp_path / "log.jsonl").read_text())
    when = datetime.fromisoformat(entry.pop("time"))
    assert timedelta() <= datetime.now(timezone.utc) - when < timedelta(minutes=1)
    assert entry == {"kind": "train", "step": 20, "loss": 2.5, "images_per_second": 100.0}


def test_what_is_not_finite_is_null_and_standard_json(tmp_path: Path) -> None:
    with Journal(tmp_path, step=0) as journal:
        journal.record(1, {"loss": math.nan, "primal": math.inf})
        journal.validated(1, math.inf, [])

    def refuse(name: str) -> None:
        raise AssertionError(name)

    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    train, validation = (json.loads(line, parse_constant=refuse) for line in lines)
    assert (train["loss"], train["primal"], validation["psnr"]) == (None, None, None)
    assert read_journal(tmp_path) == [train, validation]


def test_sigkill_loses_no_line(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from drc_deploy.train.loop.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), step=0)\n"
        "for step in range(1, 51): journal.record(step, {'loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=PATIENCE_S)
    assert ended.returncode == -signal.SIGKILL
    assert [entry["step"] for entry in read_journal(tmp_path)] == list(range(1, 51))
    assert [e.step for e in read_events(tmp_path).Scalars("train/loss")] == list(range(1, 51))


def test_a_new_run_starts_with_an_empty_log_whatever_was_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("garbage\n")
    with Journal(tmp_path, step=0) as journal:
        assert read_journal(tmp_path) == []
        journal.record(1, {"loss": 1.0})
    assert len(read_journal(tmp_path)) == 1


def test_without_tensorboard_the_log_is_written_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with Journal(tmp_path, step=0) as journal:
        write_steps(journal, 1, 2)
    assert len(read_journal(tmp_path)) == 3
    assert not (tmp_path / "tensorboard").exists()
    assert re.fullmatch(r".*pip install 'drc-deploy\[train\]'.*\n", capsys.readouterr().err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["log", "tensorboard"])
def test_a_full_disk_is_a_sentence(tmp_path: Path, name: str) -> None:
    with Journal(tmp_path, step=0) as journal:
        full = GrowingFile(Path("/dev/full"))
        if name == "log":
            journal._log.close()
            journal._log = full
        else:
            assert journal._events
            journal._events._file.close()
            journal._events._records._writer = full
        with pytest.raises(OutputError, match="No space left on device"):
            journal.record(1, {"loss": 1.0})
        full.close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Journal(tmp_path / "file" / "net.run", step=0)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused(tmp_path: Path, garbage: str) -> None:
    (tmp_path / "log.jsonl").write_text(f"{LINE}\n{garbage}\n{LINE}\n")
    with pytest.raises(ArtefactError, match="damaged"):
        read_journal(tmp_path)
    with pytest.raises(ArtefactError, match="damaged"):
        Journal(tmp_path, step=1)


def test_bytes_that_are_no_text_are_refused_but_for_a_torn_last_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(ArtefactError, match="damaged"):
        read_journal(tmp_path)
    (tmp_path / "log.jsonl").write_bytes(b"\x00" * 100)  # what a power cut can leave
    assert read_journal(tmp_path) == []


def test_a_run_is_found_by_folder_checkpoint_and_name(tmp_path: Path) -> None:
    folder = tmp_path / "net.v2.run"
    Journal(folder, step=0).close()
    references = [str(folder), str(tmp_path / "net.v2.safetensors"), str(tmp_path / "net.v2"), "net.v2", "net.v2.run"]
    assert [find_run(reference, tmp_path) for reference in references] == [folder] * 5


@pytest.mark.parametrize("reference", ["none", "", "~nobody/x", "a" * 5000, "a\0b"])
def test_a_run_that_is_not_there_is_a_sentence(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ArtefactError, match=r"there is no run|holds no log\.jsonl"):
        find_run(reference, tmp_path)
    assert os.listdir(tmp_path) == []
