import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drc_deploy.errors import OutputError
from drc_deploy.export.staging import move_into_place, staging_folder


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow over 4 KiB: the kernel refuses the write, as it does on a full disk.

    Around the write alone, since the test's own output may go to a file as well.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_files_replace_those_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with staging_folder(tmp_path) as staging:
        (staging / "a").write_text("new")
        published = move_into_place([staging / "a"], tmp_path)
    assert published == [tmp_path / "a"]
    assert (tmp_path / "a").read_text() == "new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail_after_the_first_file() -> None:
        with staging_folder(tmp_path) as staging:
            (staging / "a").write_text("new")
            move_into_place([staging / "a", staging / "missing"], tmp_path)

    with pytest.raises(OutputError, match="No such file"):
        fail_after_the_first_file()
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), full_disk(), staging_folder(tmp_path) as staging:
        (staging / "a").write_bytes(bytes(100_000))
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="cannot write"), staging_folder(tmp_path / "taken"):
        pass


def test_what_a_killed_export_left_is_removed_and_nothing_of_one_at_work(tmp_path: Path) -> None:
    code = "import sys, pathlib, time\nfrom drc_deploy.export.staging import staging_folder\n"
    code += "with staging_folder(pathlib.Path(sys.argv[1])) as folder:\n"
    code += " (folder / 'a').write_text('half')\n print(folder, flush=True)\n sys.stdin.read()"
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        left = Path(other.stdout.readline().strip())
        os.utime(left, (0, 0))
        with staging_folder(tmp_path):
            assert (left / "a").read_text() == "half"
        other.kill()
    assert os.listdir(tmp_path) == [left.name]
    with staging_folder(tmp_path) as staging:
        assert os.listdir(tmp_path) == [staging.name]
    assert os.listdir(tmp_path) == []
