"""A folder has one process at a time."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drc_deploy import only_one as module
from drc_deploy.errors import OutputError
from drc_deploy.only_one import is_abandoned, only_one


def test_a_second_one_is_kept_out_until_the_first_has_ended(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(OutputError, match="another process is writing"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_one_that_is_killed_leaves_nothing_locked(tmp_path: Path) -> None:
    code = "import sys, pathlib\nfrom drc_deploy.only_one import only_one\n"
    code += "with only_one(pathlib.Path(sys.argv[1])):\n print(flush=True)\n sys.stdin.read()"
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"\n"
        with pytest.raises(OutputError, match="another process"), only_one(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
    with only_one(tmp_path):
        pass


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_its_owner_removes_meanwhile_keeps_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    real_open = os.open

    def open_before_it_is_removed(path: Path, flags: int) -> int:
        handle = real_open(path, flags)
        folder.rmdir()
        if again:
            folder.mkdir()
        return handle

    monkeypatch.setattr(os, "open", open_before_it_is_removed)
    with pytest.raises(OutputError, match="another process"), only_one(folder):
        pass


def test_a_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="another process"), only_one(tmp_path / "gone"):
        pass


def test_abandoned_is_what_is_old_and_locked_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    assert not is_abandoned(path)
    path.touch()
    assert not is_abandoned(path)  # its maker may be about to lock it
    os.utime(path, (0, 0))
    assert is_abandoned(path)
    with only_one(path):
        assert not is_abandoned(path)

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert not is_abandoned(path)
    with only_one(path):  # nobody is kept out where there are no locks
        pass
    monkeypatch.setattr(module, "fcntl", None)
    assert not is_abandoned(path)
