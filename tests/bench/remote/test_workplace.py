import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drc_deploy.bench.remote.workplace import RESULTS, workplace
from drc_deploy.errors import OutputError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def abandon(temporary: Path, folder: str | None) -> None:
    """Let a process work in a folder and kill it."""
    code = (
        "import os, sys, tempfile; from drc_deploy.bench.remote.workplace import workplace\n"
        f"tempfile.tempdir = {str(temporary)!r}\n"
        f"with workplace({folder!r}) as place:\n"
        "    (place.folder / 'out').mkdir(); (place.folder / 'out/report.json').touch()\n"
        f"    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_a_temporary_folder_is_removed_with_all_that_is_in_it(temporary: Path) -> None:
    def fill_and_stop(folder: Path) -> None:
        (folder / "engines").mkdir()
        assert list(temporary.iterdir()) == [folder]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), workplace(None) as place:
        fill_and_stop(place.folder)
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_run_is_removed_by_the_next_one_and_that_of_a_living_one_is_not(
    temporary: Path,
) -> None:
    (temporary / "drc-deploy-remote-of-somebody").mkdir()  # without a lock: not made by this program
    with workplace(None) as living:
        abandon(temporary, None)
        assert len(list(temporary.iterdir())) == 3
        with workplace(None):
            assert living.folder.is_dir()
            assert len(list(temporary.iterdir())) == 3
    assert [path.name for path in temporary.iterdir()] == ["drc-deploy-remote-of-somebody"]


def test_a_program_that_outlives_its_run_keeps_the_folder(temporary: Path) -> None:
    folder = temporary / "kept"
    with workplace(str(folder)) as place:
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(place.lock,))
    with pytest.raises(OutputError, match="another measurement is running"), workplace(str(folder)):
        pass
    program.communicate(b"\n")
    with workplace(str(folder)):
        pass


def test_a_kept_folder_keeps_files_but_no_results(temporary: Path) -> None:
    abandon(temporary, str(temporary / "a/b"))
    with workplace(str(temporary / "a/b")) as place:
        assert not (place.folder / RESULTS).exists()
        (place.folder / "engine").touch()
        (place.folder / RESULTS).mkdir()
        with pytest.raises(OutputError, match="another measurement"), workplace(str(place.folder)):
            pass
    assert (place.folder / "engine").exists()
    assert not (place.folder / RESULTS).exists()


def test_a_folder_that_cannot_be_made_is_an_error(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary / "file").touch()
    with pytest.raises(OutputError, match="cannot write"), workplace(str(temporary / "file")):
        pass
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "none"))
    with pytest.raises(OutputError, match="no place for temporary files") as caught, workplace(None):
        pass
    assert "--remote-dir" in caught.value.hint
