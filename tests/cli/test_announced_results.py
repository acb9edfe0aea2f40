"""Commands say on standard error, before they begin, what they replace and which shipped name they take."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from drc_deploy.export.trt.gpu import Gpu
from drc_deploy.locate import SHIPPED, find_checkpoint, hides_shipped
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.pruning.greedy import GreedyPruning
from drc_deploy.train.search.searcher import Searcher
from tests.cli.commands import drc
from tests.cli.test_compression_commands import STEPS
from tests.cli.test_training_commands import QUICK
from tests.train.interruption import interrupt_after

COMMANDS: dict[str, tuple[list[object], list[str]]] = {
    "train": (["train", "--model", "drn_xs", "--steps", 2, *QUICK, "-o"], ["x.safetensors"]),
    "finetune": (["finetune", "drn_xs", "--steps", 2, *QUICK, "-o"], ["x.safetensors"]),
    "search": (["search", "drn_xs", "--steps", 2, *QUICK, "-o"], ["x.widths.json", "x.widths.png"]),
    "prune": (["prune", "drn_xs", "--widths", "w.txt", "--batches", 1, *QUICK, "-o"], ["x.safetensors"]),
    "compress": (["compress", "--model", "drn_xs", *STEPS, "-o"], ["x.safetensors"]),
    "export": (["export", "drn_xs", "--workdir", ".", "-o"], ["x.onnx", "x.float.onnx"]),
}


def announced(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("Replacing ") or " will mean " in line]


def words_of(name: str, folder: Path) -> tuple[list[object], list[str]]:
    """Make what the command reads; return the command, and what it writes."""
    (folder / "w.txt").write_text("4\n" * 12)
    words, results = COMMANDS[name]
    return [*words, "x" if name == "export" else results[0]], list(results)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "compress"])
def test_a_finished_result_is_not_replaced_without_a_word(tmp_path: Path, name: str) -> None:
    words, results = words_of(name, tmp_path)
    first = drc(*words, cwd=tmp_path)
    assert (first.returncode, announced(first.stderr)) == (0, []), first.stderr
    second = drc(*words, cwd=tmp_path)
    assert second.returncode == 0
    assert announced(second.stderr) == [f"Replacing {result}." for result in results]
    assert second.stdout == first.stdout


@pytest.mark.parametrize(
    ("name", "owner", "method"),
    [
        ("train", Trainer, "update"),
        ("finetune", Trainer, "update"),
        ("search", Searcher, "update"),
        ("prune", GreedyPruning, "advance"),
    ],
)
def test_work_that_goes_on_was_announced_when_it_began(
    tmp_path: Path, name: str, owner: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, results = words_of(name, tmp_path)
    for result in results:
        (tmp_path / result).write_bytes(b"finished")
    said: list[Sequence[str]] = []
    for _ in range(2):
        with monkeypatch.context() as patch:
            interrupt_after(patch, owner, method, 1)
            stopped = drc(*words, *(["--restart"] if said else []), cwd=tmp_path)
        assert stopped.returncode == 130
        said.append(announced(stopped.stderr))
    assert said[0] == said[1] == [f"Replacing {result}." for result in results]
    went_on = drc(*words, cwd=tmp_path)
    assert (went_on.returncode, announced(went_on.stderr)) == (0, [])


def test_a_compression_that_is_kept_replaces_nothing_and_one_with_other_options_does(tmp_path: Path) -> None:
    words, (result,) = words_of("compress", tmp_path)
    assert announced(drc(*words, cwd=tmp_path).stderr) == []
    made = (tmp_path / result).stat().st_mtime_ns
    assert announced(drc(*words, cwd=tmp_path).stderr) == []
    assert (tmp_path / result).stat().st_mtime_ns == made
    shutil.rmtree(tmp_path / "x.stages")
    for more in ((), ("--finetune-steps", 2), ("--restart",)):
        again = drc(*words, *more, cwd=tmp_path)
        assert (again.returncode, announced(again.stderr)) == (0, [f"Replacing {result}."])
        assert (tmp_path / result).stat().st_mtime_ns > made


def test_an_import_over_a_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"finished")
    failed = drc("import", "nothing.pt", "-o", "x.safetensors", cwd=tmp_path)
    assert failed.returncode == 1
    assert announced(failed.stderr) == ["Replacing x.safetensors."]


def test_a_shipped_name_that_is_taken_is_named_once(tmp_path: Path) -> None:
    train = ["train", "--model", "drn_xs", "--steps", 1, *QUICK]
    first, second = (announced(drc(*train, cwd=tmp_path).stderr) for _ in range(2))
    assert first == ["drn_xs will mean drc_runs/drn_xs.safetensors, no longer the network that ships with drc-deploy."]
    assert second == ["Replacing drc_runs/drn_xs.safetensors."]
    assert find_checkpoint("drn_xs", tmp_path / "drc_runs").parent == tmp_path / "drc_runs"


@pytest.mark.parametrize("file", ["drn_xs.safetensors", "sub/drn_xs.safetensors", "drn_xs.onnx", "mine.safetensors"])
def test_a_name_is_taken_where_it_is_found_before_the_shipped_one(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    taken = hides_shipped(path, tmp_path)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    assert taken == (find_checkpoint("drn_xs", tmp_path) == path)
    assert (SHIPPED / "drn_xs.safetensors").is_file()


@pytest.mark.parametrize("gpu", [None, Gpu("H200", "9.0", None)])
def test_a_plan_is_suggested_only_where_a_gpu_is(
    tmp_path: Path, gpu: Gpu | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc_deploy.export.trt.gpu.find_gpu", lambda: gpu)
    words, (result,) = words_of("compress", tmp_path)
    made = drc(*words, cwd=tmp_path)
    assert made.stdout.splitlines()[-1] == f"Next: drc-deploy export {result}{' --trt fp16' if gpu else ''}"
