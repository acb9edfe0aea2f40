"""Two commands that make one result are kept apart: the second names the first, and touches nothing."""

import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from drc_deploy.errors import OutputError
from drc_deploy.files import only_maker
from drc_deploy.only_one import only_one
from tests.cli.commands import drc
from tests.cli.test_training_commands import QUICK
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest

BENCH = ("bench", "n.onnx", "--out", "out", "--size", "16x24", "--min-runs", 8, "--min-seconds", 0, "--threads", 1)


def _everything(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _kept_out(command: tuple[object, ...], lock: AbstractContextManager[None], folder: Path) -> None:
    with lock:
        before = _everything(folder)
        result = drc(*command, cwd=folder)
        assert _everything(folder) == before
    assert result.returncode == 1
    assert re.search(rf"another process is writing \S+ \(process {os.getpid()}\)", result.stderr), result.stderr


def _widths(folder: Path) -> Path:
    made = drc("search", "drn_xs", "--method", "uniform", *QUICK, "-o", "w.widths.json", cwd=folder)
    assert made.returncode == 0, made.stderr
    return folder / "w.widths.json"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("train", "--model", "drn_xs", "--steps", 1, *QUICK), "x.safetensors"),
        (("finetune", "drn_xs_r30", "--steps", 1, *QUICK), "x.safetensors"),
        (("search", "drn_xs", "--steps", 1, *QUICK), "x.widths.json"),
    ],
)
def test_training_and_search_of_one_result_are_kept_apart(
    tmp_path: Path, command: tuple[object, ...], output: str
) -> None:
    command = (*command, "-o", output)
    _kept_out(command, only_maker(tmp_path / output), tmp_path)
    done = drc(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".*.lock"))


def test_prunings_into_one_result_are_kept_apart(tmp_path: Path) -> None:
    command = ("prune", "drn_xs", "--widths", _widths(tmp_path), "--batches", 1, *QUICK, "-o", "x.safetensors")
    _kept_out(command, only_maker(tmp_path / "x.safetensors"), tmp_path)


def test_exports_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    _kept_out(("export", "drn_xs", "--workdir", "."), only_maker(tmp_path / "drn_xs.onnx"), tmp_path)


def test_benchmarks_into_one_folder_are_kept_apart(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "out").mkdir()
    _kept_out(BENCH, only_one(tmp_path / "out"), tmp_path)
    # A file of the same name in another folder is another result.
    (tmp_path / "other").mkdir()
    with only_maker(tmp_path / "a.safetensors"), only_maker(tmp_path / "other/a.safetensors"):
        pass


def test_two_real_processes_leave_the_result_of_one(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "drc_deploy", "train", "--model", "drn_xs", "--steps", "3", *QUICK]
    words += ["-o", "x.safetensors"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=PATIENCE_S)[1].decode() for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 1] or codes == [0, 0], errors  # the machine may have run one after the other
    assert all(("another process" in error) == bool(code) for error, code in zip(errors, codes, strict=True))


def test_a_killed_maker_leaves_no_lock_and_the_longest_name_has_one(tmp_path: Path) -> None:
    output = tmp_path / ("ö" * 115 + ".safetensors")
    code = "import pathlib, os, sys\nfrom drc_deploy.files import only_maker\n"
    code += "with only_maker(pathlib.Path(sys.argv[1])):\n os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(output)], check=False).returncode == -9
    with only_maker(output), pytest.raises(OutputError, match="another process"), only_maker(output):
        pass
    assert not list(tmp_path.iterdir())
