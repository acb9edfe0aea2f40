import json
from pathlib import Path

import pytest

from tests.bench.reports import edit, quiet, saved, steady, with_machine
from tests.cli.test_bench import QUICK, run
from tests.runtime.networks import write_nearest


@pytest.fixture
def slower(tmp_path: Path) -> tuple[Path, Path]:
    """Two reports; the engine of the second takes a quarter longer and loses 0.1 dB."""
    return saved(tmp_path / "a", quiet(steady("x", 100))), saved(tmp_path / "b", quiet(steady("x", 125, 29.9)))


def test_the_table_shows_what_changed(slower: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "compare", *slower) == 0
    out = capsys.readouterr().out
    assert "| `x` " in out
    assert "1.250 (" in out
    assert "slower" in out


@pytest.mark.parametrize(
    ("limits", "code", "crossed"),
    [
        (["--fail-above", "5%"], 1, ["latency"]),
        (["--fail-above", "30%"], 0, []),
        (["--fail-above", "30%", "--fail-above", "psnr=0.05"], 1, ["psnr"]),
        (["--fail-above", "5%", "--fail-above", "psnr=0.05", "--fail-above", "memory=5%"], 1, ["latency", "psnr"]),
    ],
)
def test_a_limit_that_is_crossed_ends_with_exit_code_one_after_the_result(
    slower: tuple[Path, Path], limits: list[str], code: int, crossed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "compare", *slower, "--json", *limits) == code
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert [item["figure"] for item in result["crossed"]] == crossed
    assert result["engines"][0]["latency"]["ratio"] == pytest.approx(1.25)
    assert ("a limit is crossed" in captured.err) is bool(crossed)


def test_options_may_stand_before_the_reports(slower: tuple[Path, Path]) -> None:
    assert run("bench", "compare", "--fail-above", "5%", *slower) == 1


def test_a_limit_that_is_none_is_wrong_usage(slower: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "compare", *slower, "--fail-above", "fast") == 2
    assert "psnr=0.05dB" in capsys.readouterr().err
    assert run("bench", "compare", *slower, "--fail-above", "2%") == 2
    assert "Use 5% or more" in capsys.readouterr().err


def test_another_machine_is_refused_and_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = quiet(steady("x", 100))
    paths = saved(tmp_path / "a", report), saved(tmp_path / "b", with_machine(report, cpu="Another"))
    assert run("bench", "compare", *paths) == 1
    assert "--force" in capsys.readouterr().err
    assert run("bench", "compare", *paths, "--force") == 0
    assert "processor: Test CPU" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}'])
def test_what_is_no_report_is_a_sentence(
    slower: tuple[Path, Path], content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    slower[1].write_text(content)
    assert run("bench", "compare", *slower) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"Error: {slower[1]} " in captured.err
    assert "fault of drc-deploy" not in captured.err


def test_a_missing_file_and_a_folder_are_sentences(
    slower: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "compare", slower[0], tmp_path / "none.json") == 1
    assert "cannot read" in capsys.readouterr().err
    assert run("bench", "compare", slower[0], tmp_path) == 1
    assert "is a folder" in capsys.readouterr().err


def test_one_report_alone_is_wrong_usage_of_compare(
    slower: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "compare", slower[0]) == 2
    assert "bench compare" in capsys.readouterr().err


def test_compare_has_its_own_help_and_bench_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "compare", "--help") == 0
    assert "--fail-above" in capsys.readouterr().out
    assert run("bench", "--help") == 0
    out = capsys.readouterr().out
    assert "compare  Show what changed between two reports." in out
    assert "drc-deploy bench run --help" in out
    assert run("bench", "run", "--help") == 0
    assert "--min-runs" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["run", "compare"], ["x.onnx", "compare"], ["--json", "compare"], ["./compare"]])
def test_an_engine_called_compare_is_one_where_it_is_not_the_first_word(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare name is a checkpoint; this one is damaged, which its row says without any need of torch."""
    write_nearest(tmp_path / "x.onnx")
    (tmp_path / "compare.safetensors").write_bytes(b"damaged")
    assert run("bench", *words, "--workdir", tmp_path, *QUICK) == (0 if "x.onnx" in words else 1)
    assert "compare.safetensors" in capsys.readouterr().out


def test_bench_writes_tables_next_to_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nearest(tmp_path / "n.onnx")
    assert run("bench", "--workdir", tmp_path, "--json", *QUICK) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert "| `n.onnx` " in Path(files["markdown"]).read_text()
    assert Path(files["csv"]).read_text().count("\n") == 2


def test_report_writes_the_page_again_and_merges(
    slower: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", slower[0]) == 0
    assert (tmp_path / "a/report.html").is_file()
    edit(slower[1], lambda data: data.update(created="2026-03-01T00:00:00+00:00"))
    capsys.readouterr()
    assert run("report", *slower, "--workdir", tmp_path / "w", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files["report"] == str(tmp_path / "w/merged/reports.json")
    assert all(Path(file).is_file() for file in files.values())


def test_report_of_what_is_none_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report") == 2
    (tmp_path / "x.json").write_text("{}")
    assert run("report", tmp_path / "x.json") == 1
    assert "x.json is not a report" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
