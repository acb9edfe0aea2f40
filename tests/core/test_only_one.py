"""A folder has one process at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import IO
from unittest.mock import patch

import pytest

from drc_deploy import only_one as module
from drc_deploy.errors import OutputError
from drc_deploy.only_one import file_made_locked, folder_made_locked, made_locked, only_one, remove_abandoned


def test_a_second_one_is_kept_out_until_the_first_has_ended(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(OutputError, match="another process is writing"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_several_that_share_it_keep_out_whoever_wants_it_alone_and_the_other_way_round(tmp_path: Path) -> None:
    share = partial(only_one, tmp_path, shared=True)
    with share(), share(), pytest.raises(OutputError, match="another process is writing"), only_one(tmp_path):
        pass
    with only_one(tmp_path), pytest.raises(OutputError), share():
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


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name")
def test_a_kill_before_a_file_is_locked_leaves_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with patch.object(module, "_lock", lambda *_, **__: os._exit(9)), file_made_locked(tmp_path / "x"):
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nameless", [True, False])
def test_a_file_is_made_locked_with_ordinary_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    (tmp_path / "ordinary").touch()
    with file_made_locked(tmp_path / "x"):
        remove_abandoned([tmp_path / "x"])
        assert (tmp_path / "x").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
        with pytest.raises(OutputError, match="another process"), only_one(tmp_path / "x"):
            pass
    remove_abandoned([tmp_path / "x"])
    assert {path.name for path in tmp_path.iterdir()} == {"ordinary"}


def test_where_a_lock_stops_writing_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_on_cifs(path: Path, mode: str, buffering: int = -1) -> IO[bytes]:  # flock(2), "CIFS details"
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        finally:
            os.close(handle)
        return path.open(mode, buffering)

    monkeypatch.delattr(os, "O_TMPFILE", raising=False)  # nor has CIFS these
    monkeypatch.setattr(module, "open", open_on_cifs, raising=False)
    with file_made_locked(tmp_path / "x"), open_on_cifs(tmp_path / "x", "wb") as stream:
        stream.write(b"result")
    assert (tmp_path / "x").read_bytes() == b"result"


def test_folders_of_others_stay_whatever_they_are_called(tmp_path: Path) -> None:
    kept = ["a-", "a-main", "a-1.0", "a-0123456789abcdef.tar", "a-0123456789abcdef0", "b-0123456789abcdef"]
    for name in kept:
        (tmp_path / name / "photos").mkdir(parents=True)
    (tmp_path / "a-fedcba9876543210").touch()
    (tmp_path / "a-00000000000000ff").symlink_to(tmp_path / "a-main")
    (tmp_path / "a-00000000000000aa").mkdir()  # of a killed process
    with folder_made_locked(tmp_path, "a-") as folder:
        names = {path.name for path in tmp_path.iterdir()} - {folder.name}
        assert names == {*kept, "a-fedcba9876543210", "a-00000000000000ff"}
    assert not folder.exists()
    assert all((tmp_path / name / "photos").exists() for name in kept)


def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    remove_abandoned([tmp_path / "pipe"])
    assert not (tmp_path / "pipe").exists()


def test_abandoned_is_what_is_there_and_locked_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_abandoned(path: Path) -> bool:
        path.touch()
        remove_abandoned([path, tmp_path / "none"])
        return not path.exists()

    path, making = tmp_path / "x", tmp_path / "x.new"
    assert is_abandoned(path)  # however young it is
    assert not is_abandoned(making)  # its maker may be about to lock it
    os.utime(making, (0, 0))
    remove_abandoned([making])
    assert not making.exists()
    with made_locked(path, Path.touch):
        assert not is_abandoned(path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    remove_abandoned([tmp_path / "folder"])
    assert not (tmp_path / "folder").exists()

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert not is_abandoned(path)
    with only_one(path):  # nobody is kept out where there are no locks
        pass
    monkeypatch.setattr(module, "fcntl", None)
    assert not is_abandoned(path)
