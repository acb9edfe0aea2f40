"""A file is whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from drc_deploy.errors import OutputError
from drc_deploy.files import atomic_path, write_text


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
    def refuse(*_: Path) -> None:
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
