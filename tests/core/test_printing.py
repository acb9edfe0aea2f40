"""What others wrote is shown, and not obeyed: by terminals, in Markdown and in pages."""

import json
import logging
import os
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.bench.show.markdown import code, prose
from drc_deploy.bench.show.page import render_page
from drc_deploy.cli.options import emit
from drc_deploy.printing import one_line, printable
from drc_deploy.progress import progress
from drc_deploy.runtime.jobs.run import Finished
from tests.bench.reports import quiet, steady
from tests.cli.commands import drc
from tests.runtime.networks import write_nearest

HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202eb\u2066c\rd\x08"
OBEYED = set("\x1b\x07\x9b\u202e\u2066\r\x08")


@given(st.text())
def test_no_control_of_a_terminal_or_of_its_reading_direction_is_left(text: str) -> None:
    shown = one_line(text)
    assert {unicodedata.category(character) for character in shown}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert {unicodedata.bidirectional(character) for character in shown}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )
    assert printable(text).split("\n") == [one_line(line) for line in text.split("\n")]


@pytest.mark.parametrize("text", ["写真 1.png", "میخواهم\u200c.png", "👩\u200d🔬.png", "a\u3000b\u00a0c"])
def test_names_of_all_languages_stay_as_they_are(text: str) -> None:
    assert one_line(text) == text


def test_markdown_and_pages_hold_no_controls(tmp_path: Path) -> None:
    page = render_page(quiet(steady(HOSTILE, 1)), tmp_path)
    for text in (code(HOSTILE), prose(HOSTILE), page):
        assert not OBEYED & set(text)
        assert "owned" in text


def test_metadata_of_a_network_are_shown_by_info_on_one_line(tmp_path: Path) -> None:
    import onnx

    write_nearest(tmp_path / "n.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    for item in model.metadata_props:
        item.value = item.value.replace('"model": "', '"model": "a\\u001b]0;owned\\u0007\\nkind  trusted')
    assert any("owned" in item.value for item in model.metadata_props)
    onnx.save(model, tmp_path / "n.onnx")
    shown = drc("info", "n.onnx", cwd=tmp_path)
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert r"a\x1b]0;owned\x07\nkind  trusted" in shown.stdout


def test_names_of_files_in_a_folder_are_shown(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/a\x1b[8m.png")
    (tmp_path / "photos/b\x1b[8m.png").write_bytes(b"no image")
    write_nearest(tmp_path / "n.onnx")
    done = drc("upscale", "photos", "-o", "out", "--engine", "n.onnx", cwd=tmp_path)
    assert r"a\x1b[8m" in done.stdout
    assert r"b\x1b[8m" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_progress_and_notes_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with progress("a\x1b[8m", 1) as bar:
        bar.advance(note="b\x1b[8m")
    drc("models", cwd=tmp_path)  # any command: it decides how notes are printed
    assert "\x1b" not in capsys.readouterr().err
    assert logging.lastResort is not None
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "c\x1b[8m\nd", None, None)
    assert logging.lastResort.format(record) == "c\\x1b[8m\nd"


def made(count: int) -> list[Finished]:
    return [Finished(f"in/{number}.png", f"out/ü{number}.png", 32, 32, 0.1, 1) for number in range(count)]


def test_a_note_about_a_name_of_two_lines_is_one_line(tmp_path: Path) -> None:
    from PIL import Image

    frames = [Image.new("L", (8, 8), level) for level in (0, 99)]
    frames[0].save(tmp_path / "a\nError: b.gif", save_all=True, append_images=frames[1:])
    write_nearest(tmp_path / "n.onnx", scale=2)
    # A process of its own: pytest takes what is logged in this one.
    command = [
        sys.executable,
        "-m",
        "drc_deploy",
        "upscale",
        "a\nError: b.gif",
        "--engine",
        "n.onnx",
        "--format",
        "jpg",
    ]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert r"a\nError: b.gif has 2 frames" in done.stderr
    assert not any(line.startswith("Error") for line in done.stderr.splitlines())


def test_one_json_object_is_printed_however_long_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"files": made(5000), "engine": "x"}, as_json=True, text="")
    printed = capsys.readouterr().out
    assert printed.endswith("}\n")
    first = {"input": "in/0.png", "output": "out/ü0.png", "width": 32, "height": 32, "seconds": 0.1, "tiles": 1}
    read = json.loads(printed)
    assert (read["files"][0], len(read["files"]), read["engine"]) == ({**first, "frames": 1}, 5000, "x")
    assert printed == json.dumps(read, indent=2) + "\n"


def test_the_memory_that_printing_an_object_takes_does_not_grow_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(count: int) -> int:
        finished = made(count)
        tracemalloc.start()
        emit({"files": finished}, as_json=True, text="")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        peak(5000)  # whatever is made once
        assert peak(40_000) < 2 * peak(5000)
