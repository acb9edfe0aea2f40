"""Progress where there is no terminal: what is printed, and when."""

import re

import pytest
from rich.cells import cell_len

from drc_deploy import progress as module
from drc_deploy.progress import progress, progress_of_files


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_S", 0.0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was printed, with the same number for all times."""
    return re.sub(r"\b\d+ s\b", "9 s", capsys.readouterr().err).splitlines()


def test_time_left_is_shown_when_it_is_known_and_time_taken_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Work", 2) as bar:
        bar.advance(0, "begun")
        bar.advance(note="loss 1")
        bar.advance()
    assert lines(capsys) == ["Work: 0/2, begun", "Work: 1/2, loss 1, 9 s left", "Work: 2/2, 9 s"]


def test_of_many_files_the_progress_of_each_is_a_note_of_that_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_of_files("Upscaling", 2) as files:
        with progress("a.png", 2) as tiles:
            tiles.advance()
        files.advance()
        with progress("film: frame", 9, done=3) as frames:
            frames.advance(2, "slow")
        files.advance()
    assert lines(capsys) == [
        "Upscaling: 0/2, a.png 1/2",
        "Upscaling: 1/2, 9 s left",
        "Upscaling: 1/2, film: frame 5/9, slow, 9 s left",
        "Upscaling: 2/2, 9 s",
    ]
    with progress("After", 1) as bar:
        bar.advance()
    assert lines(capsys) == ["After: 1/1, 9 s"]


def test_one_file_shows_its_own_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_of_files("Upscaling", 1) as files:
        with progress("a.png", 1) as tiles:
            tiles.advance()
        files.advance()
    assert lines(capsys) == ["a.png: 1/1, 9 s"]


def test_a_terminal_shows_one_bar_with_the_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_of_files("Upscaling", 2) as files:
        for name in ("a.png", "b.png"):
            with progress(name, 3) as tiles:
                tiles.advance(3)
            files.advance()
    shown = capsys.readouterr().err
    assert "Upscaling" in shown
    assert "2/2" in shown


@pytest.mark.parametrize("columns", [50, 80])
@pytest.mark.parametrize("files", [1, 12])
def test_a_long_name_leaves_room_for_the_count_on_a_terminal(
    files: int, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress_of_files("Upscaling", files) as bar:
        bar.advance(7)
        with progress("\u65e5\u672c [red] " * 20 + ".png", 30) as tiles:
            tiles.advance(4)
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().err)
    last = re.split(r"[\r\n]+", shown.rstrip())[-1]
    assert (" 7/12 " if files > 1 else " 4/30 ") in last
    assert last.startswith("Upscaling ") == (files > 1)
    assert "\u65e5\u672c [red]" in last
    assert "\u2501" in last
    assert cell_len(last) <= columns


def test_skipped_files_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_of_files("Upscaling", 3) as files:
        files.advance()
        files.expect(-1)
        files.advance()
    assert lines(capsys) == ["Upscaling: 1/3, 9 s left", "Upscaling: 2/2, 9 s"]
    with progress_of_files("Upscaling", 3) as files:
        files.advance(2)
        files.expect(-1)
    assert lines(capsys) == ["Upscaling: 2/3, 9 s left", "Upscaling: 2/2, 9 s"]
    with progress_of_files("Upscaling", 3) as files:
        files.expect(-3)
    assert lines(capsys) == []
