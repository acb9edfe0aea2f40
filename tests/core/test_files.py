"""A file is whole or not there."""

import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from drc_deploy.errors import OutputError
from drc_deploy.files import (
    atomic_path,
    cannot_write,
    check_writable,
    only_maker,
    read_folders_again,
    read_sealed,
    scratch_folder,
    write_sealed,
    write_text,
    write_texts,
)


def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("dangling", [False, True])
def test_what_appears_meanwhile_stays_unless_it_may_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool, dangling: bool
) -> None:
    def refuse(*_: Path, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "x.txt"

    def work(text: str, *, appears: bool, replace: bool) -> None:
        with atomic_path(target, replace=replace) as temporary:
            temporary.write_text(text)
            if appears:
                target.symlink_to("nowhere") if dangling else target.write_text("another's")

    work("first", appears=False, replace=False)
    assert target.read_text() == "first"
    assert target.stat().st_nlink == 1
    target.unlink()
    with pytest.raises(OutputError, match=r"x\.txt exists already") as caught:
        work("second", appears=True, replace=False)
    assert "--overwrite" in caught.value.hint
    assert os.readlink(target) == "nowhere" if dangling else target.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [target]
    work("third", appears=False, replace=True)
    assert target.read_text() == "third"


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "x.txt"), open("/dev/full", "w") as full:
            full.write("x" * 10_000)

    with pytest.raises(OutputError, match="No space left"):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_replaced_meanwhile_is_an_output_error(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "x.txt"

    def work() -> None:
        with atomic_path(target) as temporary:
            temporary.unlink()
            target.parent.rmdir()
            target.parent.write_text("a file now")

    with pytest.raises(OutputError, match="Not a directory"):
        work()
    assert target.parent.read_text() == "a file now"


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "atomic", "x")
    (tmp_path / "plain").write_text("x")
    assert os.stat(tmp_path / "atomic").st_mode == os.stat(tmp_path / "plain").st_mode


def test_the_longest_name_can_be_written_and_a_longer_one_is_reported_before_the_work(tmp_path: Path) -> None:
    longest = tmp_path / ("ö" * 125 + "a.txt")
    assert len(longest.name.encode()) == os.pathconf(tmp_path, "PC_NAME_MAX") == 255
    write_text(longest, "x")
    assert longest.read_text() == "x"
    worked = False

    def work() -> None:
        nonlocal worked
        with atomic_path(longest.with_name("b" + longest.name)):
            worked = True

    with pytest.raises(OutputError, match="name too long") as caught:
        work()
    assert (caught.value.hint, worked) == ("Give a shorter name.", False)
    assert list(tmp_path.iterdir()) == [longest]


@pytest.mark.parametrize("name", ["x[1].txt", f"{'long' * 20}.txt"])
def test_what_a_killed_writer_left_is_removed_at_once_and_nothing_of_one_at_work(tmp_path: Path, name: str) -> None:
    target, others = tmp_path / name, [tmp_path / ".x1.0123abcd01234567.txt", tmp_path / f".{name}"]
    with atomic_path(target) as temporary:
        left = temporary.with_name(temporary.name.replace(temporary.stem[-8:], "01234567"))
    for path in (left, *others):
        path.touch()
    with atomic_path(target) as at_work:
        write_text(target, "meanwhile")
        assert not left.exists()
        at_work.write_text("last")
    assert target.read_text() == "last"
    assert set(tmp_path.iterdir()) == {target, *others}


class Listed:
    """Counts the entries of folders that are read."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.entries, self._scandir = 0, os.scandir
        patch.setattr(os, "scandir", self._counted)

    @contextmanager
    def _counted(self, folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with self._scandir(folder) as entries:
            yield self._each(entries)

    def _each(self, entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            self.entries += 1
            yield entry


@pytest.mark.parametrize("count", [100, 400])
@pytest.mark.parametrize("others", [0, 1000])
def test_what_writing_reads_of_a_folder_is_in_proportion_to_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, others: int
) -> None:
    for number in range(others):
        (tmp_path / f"other{number}").touch()
    listed = Listed(monkeypatch)
    for number in range(count):
        write_text(tmp_path / f"{number}", "x")
    assert listed.entries <= others + 2 * count


def test_what_killed_writers_left_among_many_files_goes_when_their_files_are_written(tmp_path: Path) -> None:
    for number in range(50):
        write_text(tmp_path / f"{number}.png", "x")
    targets, left = [tmp_path / f"{number}.png" for number in range(10)], []
    for target in targets:
        with atomic_path(target) as temporary:
            temporary.write_text("y")
            left.append(temporary.with_name(temporary.name.replace(temporary.stem[-8:], "01234567")))
        left[-1].with_name(left[-1].name + ".new").touch()
        os.utime(left[-1].with_name(left[-1].name + ".new"), (0, 0))
        left[-1].touch()
    read_folders_again()
    for target in targets[:-1]:
        write_text(target, "y")
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted([left[-1].name, left[-1].name + ".new"])
    write_text(targets[-1], "y")
    assert len(list(tmp_path.iterdir())) == 50


def test_what_is_left_after_a_folder_was_read_goes_when_as_many_files_have_been_written(tmp_path: Path) -> None:
    for number in range(50):
        write_text(tmp_path / f"{number}.png", "x")
    target = tmp_path / "0.png"
    read_folders_again()
    with atomic_path(target) as temporary:
        left = temporary.with_name(temporary.name.replace(temporary.stem[-8:], "01234567"))
        temporary.write_text("y")
    left.touch()
    for _ in range(51):
        write_text(target, "y")
    assert not left.exists()


def test_a_folder_that_takes_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for number in range(50):
        write_text(folder / f"{number}.png", "x")
    read_folders_again()
    with atomic_path(folder / "0.png") as temporary:
        left = temporary.with_name(temporary.name.replace(temporary.stem[-8:], "01234567"))
        temporary.write_text("y")
    folder.rename(tmp_path / "old")
    folder.mkdir()
    left.touch()
    write_text(folder / "0.png", "y")
    assert [path.name for path in folder.iterdir()] == ["0.png"]


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a pipe"), (_listen, "a socket"), (os.mkdir, "a folder")])
def test_what_is_no_file_is_refused_before_the_work_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    target = Path("x.png")
    make(target)
    before = target.lstat()
    with pytest.raises(OutputError, match=f"is {kind}"), atomic_path(target):
        raise AssertionError("the work has begun")
    assert (target.lstat().st_ino, target.lstat().st_mode) == (before.st_ino, before.st_mode)
    Path("link.png").symlink_to(target)
    with pytest.raises(OutputError, match=f"is {kind}"):
        write_text(Path("link.png"), "x")


def test_devices_and_standard_output_are_no_files_and_no_folders() -> None:
    with pytest.raises(OutputError, match="is a device"):
        write_text(Path("/dev/null"), "x")
    with pytest.raises(OutputError, match="it is no folder") as caught:
        check_writable(Path("/dev/null"))
    assert "-o -" in caught.value.hint


def test_a_folder_that_vanishes_meanwhile_is_named_as_the_cause(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_path(tmp_path / "folder/x.txt"):
            shutil.rmtree(tmp_path / "folder")

    with pytest.raises(OutputError) as caught:
        work()
    assert "removed meanwhile" in caught.value.hint


def test_a_sealed_text_is_none_once_any_byte_of_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    assert read_sealed(path) is None
    for text in ("", "ü {}", "two\nlines\n"):
        write_sealed(path, text)
        assert read_sealed(path) == text
        good = path.read_bytes()
        for position in range(len(good) - 1):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            assert read_sealed(path) is None
    path.unlink()
    path.mkdir()
    assert read_sealed(path) is None


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space there"),
        (errno.EDQUOT, "Free some space there"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EAGAIN, "ulimit -u"),
        (errno.EACCES, "Choose a folder that you may write to."),
    ],
)
def test_every_cause_has_its_own_hint(number: int, hint: str) -> None:
    assert hint in cannot_write("x", OSError(number, os.strerror(number))).hint


def test_of_several_files_none_takes_its_place_before_there_is_room_for_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*b: File too large"):
            write_texts({tmp_path / "a": "new", tmp_path / "b": "x" * 1001, tmp_path / "c": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    write_texts({tmp_path / "a": "new", tmp_path / "b": "x"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "x"}


def test_a_failure_leaves_no_folder_that_it_has_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "a" / "b"):
        with pytest.raises(ZeroDivisionError), atomic_path(folder / "c" / "x.txt"):
            raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    full = OSError(errno.ENOSPC, "No space left on device")
    with patch.object(tempfile, "TemporaryFile", side_effect=full), pytest.raises(OutputError, match="No space left"):
        check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    write_text(tmp_path / "a" / "b" / "x.txt", "x")
    assert (tmp_path / "a" / "b" / "x.txt").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_file_that_only_its_owner_may_replace_is_refused_before_the_work() -> None:
    with tempfile.TemporaryDirectory() as name:  # of pytest, no other user may enter its parents
        folder = Path(name)
        folder.chmod(0o1777)
        (folder / "x.txt").write_text("root's")
        os.seteuid(65534)
        try:
            with pytest.raises(OutputError, match="belongs to another user"), atomic_path(folder / "x.txt"):
                pytest.fail("the work has begun")
            write_text(folder / "y.txt", "mine")
            write_text(folder / "y.txt", "mine again")
        finally:
            os.seteuid(0)
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"x.txt": "root's", "y.txt": "mine again"}


def test_an_error_of_a_file_elsewhere_names_it(tmp_path: Path) -> None:
    def fail(path: Path) -> str:
        with pytest.raises(OutputError) as caught, atomic_path(tmp_path / "x.txt"):
            path.read_text()
        return caught.value.message

    assert fail(tmp_path / "gone") == f"cannot write {tmp_path}/x.txt: No such file or directory."
    assert "No such file or directory (/nowhere/gone)." in fail(Path("/nowhere/gone"))


def test_a_folder_whose_name_is_too_long_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long") as caught:
        check_writable(tmp_path / ("x" * 256))
    assert caught.value.hint == "Give a shorter name."


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user whom permissions bind")
def test_where_new_files_get_no_permissions_nothing_is_left() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        before = os.umask(0o777)
        os.seteuid(65534)
        try:
            with pytest.raises(OutputError, match="Permission denied"):
                write_text(folder / "x.txt", "mine")
            with pytest.raises(OutputError, match="Permission denied"), only_maker(folder / "x.txt"):
                pytest.fail("it has no lock")
        finally:
            os.seteuid(0)
            os.umask(before)
        assert os.listdir(folder) == []


_HOLD = """
import sys, time
from drc_deploy.files import scratch_folder
with scratch_folder() as folder:
    (folder / "x").touch()
    print(folder, flush=True)
    time.sleep(500)
"""


def test_temporary_files_of_a_killed_process_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ExitStack() as started:
        processes = [subprocess.Popen([sys.executable, "-c", _HOLD], stdout=subprocess.PIPE, text=True) for _ in "ab"]
        for process in processes:
            started.enter_context(process)
            started.callback(process.kill)
        killed, alive = (Path(process.stdout.readline().strip()) for process in processes if process.stdout)
        processes[0].kill()
        processes[0].wait()
        with scratch_folder() as folder:
            assert sorted(tmp_path.iterdir()) == sorted([alive, folder])
        assert list(tmp_path.iterdir()) == [alive]
        assert (alive / "x").exists()
        assert not killed.exists()
