"""The part of a remote benchmark on the machine that measures, as a process that is spoken to through its streams."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from drc_deploy.bench.remote import connection
from drc_deploy.bench.remote.connection import connect
from drc_deploy.bench.remote.target import parse_target
from drc_deploy.bench.remote.there import BEGIN
from tests.bench.remote.remote_hosts import ROOT, shell_host

Side: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[..., Side]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a side with a folder for temporary files of its own."""
    (tmp_path / "tmp").mkdir()
    sides: list[Side] = []

    def start(*kept: object, before: str = "pass") -> Side:
        code = f"import sys, tempfile, drc_deploy.bench.remote.there as there; {before}\n"
        code += "sys.exit(there.main(*sys.argv[1:]))"
        side = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, kept)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)},
            text=True,
        )
        sides.append(side)
        return side

    yield start
    for side in sides:
        side.kill()
        side.communicate()


def folder_of(side: Side) -> Path:
    """Wait until a side has its folder, and return it."""
    assert side.stdout
    lines = [side.stdout.readline() for _ in range(3)]
    assert lines[0] == f"{BEGIN}\n"
    return Path(json.loads(lines[2])["path"])


def last_words(side: Side) -> str:
    """Wait for the end of a side that is not asked to end, and return its messages."""
    assert side.stderr
    return side.stderr.read()


def run(side: Side, *words: str) -> str:
    """Run drc-deploy and return the line that answers."""
    assert side.stdin
    assert side.stdout
    side.stdin.write(json.dumps(words) + "\n")
    side.stdin.flush()
    return side.stdout.readline()


def test_commands_are_run_one_by_one_and_the_end_of_input_removes_the_folder(start: Start, tmp_path: Path) -> None:
    side = start()
    folder = folder_of(side)
    assert list((tmp_path / "tmp").iterdir()) == [folder]
    (folder / "engines").mkdir()
    assert run(side, "bench", "--help") == "0\n"
    assert run(side, "bench", "--no-such-option") == "2\n"
    side.communicate()
    assert side.returncode == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_folder_of_a_killed_side_is_removed_by_the_next_one_and_that_of_a_living_one_is_not(
    start: Start, tmp_path: Path
) -> None:
    living, killed = start(), start()
    folders = [folder_of(living), folder_of(killed)]
    killed.kill()
    killed.wait()
    for folder in folders:
        os.utime(folder, (0, 0))  # long ago
    assert folder_of(start()) not in folders
    assert [folder.exists() for folder in folders] == [True, False]


def test_a_kept_folder_keeps_files_but_no_results_and_is_for_one_run_at_a_time(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / "a/b"
    first = start(kept)
    assert folder_of(first) == kept
    (kept / "engines/x").mkdir(parents=True)
    (kept / "engines/x/engine").write_bytes(b"")
    (kept / "drc-deploy-out/report.json").touch()
    second = start(kept)
    assert "another process" in last_words(second)
    assert second.wait() == 1
    first.kill()
    first.wait()
    third = start(kept)
    folder_of(third)
    assert not (kept / "drc-deploy-out/report.json").exists()
    third.communicate()
    assert [path.name for path in kept.iterdir()] == ["engines"]
    assert (kept / "engines/x/engine").exists()


@pytest.mark.parametrize(("kept", "words"), [(["file"], "cannot write file"), ([], "cannot write a temporary folder")])
def test_a_folder_that_cannot_be_made_is_a_sentence(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    said = last_words(start(*kept, before="tempfile.tempdir = '/none'"))
    assert f"Error: {words}" in said
    assert "--remote-dir" in said
    assert "Traceback" not in said


def test_a_caller_that_keeps_silent_is_gone(start: Start) -> None:
    side = start(before="there.SILENCE_S = 0.5")
    folder = folder_of(side)
    assert side.wait(20) == 0
    assert not folder.exists()


def test_a_caller_that_waits_is_not_taken_for_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = shell_host(tmp_path / "there")
    monkeypatch.setenv("PATH", host.path)
    monkeypatch.setattr(connection, "_BEAT_S", 0.2)
    code = "import sys, drc_deploy.bench.remote.there as there; there.SILENCE_S = 3; sys.exit(there.main())"
    host.write_python(python=f'exec {sys.executable} -c "{code}"')
    with connect(parse_target("board"), f"exec {shlex.quote(host.python)}") as link:
        assert link.greeted()
        time.sleep(4)
        assert host.left() != []
    assert host.left() == []


def test_the_next_connection_removes_the_socket_folder_of_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", shell_host(tmp_path / "there").path)
    abandoned = Path("/tmp", f"drc-ssh-{os.urandom(8).hex()}")
    abandoned.mkdir(0o700)
    os.utime(abandoned, (0, 0))  # long ago
    with connect(parse_target("board"), "exec true") as link:
        assert not link.greeted()
    assert not abandoned.exists()
