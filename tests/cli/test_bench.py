import json
from functools import partial
from pathlib import Path

import pytest

from drc_deploy.bench.report.report_files import read_report
from drc_deploy.bench.run import benchmark
from drc_deploy.bench.run.engines import MeasuredEngine
from drc_deploy.bench.suite import run as suite_run
from drc_deploy.bench.suite.run import MatrixSuite
from drc_deploy.cli.main import main
from drc_deploy.errors import ArtefactError
from tests.bench.fakes import SameProcess
from tests.runtime.networks import write_nearest

QUICK = ("--size", "16x24", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")


@pytest.fixture
def _same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "run_bench", partial(benchmark.run_bench, start=SameProcess))
    monkeypatch.setattr(suite_run, "MatrixSuite", partial(MatrixSuite, start=SameProcess))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code))


@pytest.mark.usefixtures("_same_process")
def test_everything_in_the_work_folder_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "p.plan").write_bytes(b"no plan")
    assert run("bench", "--workdir", tmp_path, *QUICK) == 0
    out = capsys.readouterr().out
    report = read_report(tmp_path / "bench/report.json")
    assert [engine.name for engine in report.engines] == ["n.onnx"]
    assert [item.name for item in report.not_measured] == ["p.plan"]
    assert report.engines[0].quality.images == 4
    assert "n.onnx" in out
    assert "p.plan" in out
    assert "<svg" in (tmp_path / "bench/report.html").read_text()


def test_json_is_the_report_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_nearest(tmp_path / "n.onnx")
    assert run("bench", tmp_path / "n.onnx", "--out", tmp_path / "out", "--json", *QUICK) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["engines"][0]["latency"]["runs"] == 8
    assert result["engines"][0]["latency"]["p99_ms"] is None
    assert "368 are needed" in result["engines"][0]["latency"]["unavailable"]["p99_ms"]
    assert Path(result["files"]["page"]).is_file()


@pytest.mark.usefixtures("_same_process")
def test_a_run_without_any_result_leaves_a_report_and_exit_code_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    assert run("bench", "--workdir", tmp_path, *QUICK) == 1
    captured = capsys.readouterr()
    assert "no engine could be measured" in captured.err
    assert "failed: bad.onnx" in captured.out
    assert (tmp_path / "bench/report.html").is_file()


@pytest.mark.usefixtures("_same_process")
@pytest.mark.parametrize("suite", [(), ("--suite", "matrix")])
def test_a_run_without_any_result_leaves_the_last_good_report(
    tmp_path: Path, suite: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nearest(tmp_path / "n.onnx")
    assert run("bench", "--workdir", tmp_path, *QUICK) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "bench").glob("report.*")}
    capsys.readouterr()

    def fail(*_: object) -> None:
        raise ArtefactError("it is broken.", "Mend it.")

    monkeypatch.setattr(MeasuredEngine, "warm_up", fail)
    assert run("bench", "--workdir", tmp_path, *suite, *QUICK, "--json") == 1
    captured = capsys.readouterr()
    assert {path.name: path.read_bytes() for path in (tmp_path / "bench").glob("report.*")} == before
    assert len(before) == 4
    assert f"{tmp_path / 'bench/report.json'} is of an earlier run and stays as it is." in captured.err
    failed = json.loads(captured.out)
    assert failed["files"] == {}
    assert failed["not_measured"][0]["reason"] == "it is broken."


@pytest.mark.usefixtures("_same_process")
def test_a_report_without_figures_is_replaced_and_one_of_another_version_is_not(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    assert run("bench", "--workdir", tmp_path, *QUICK) == 1
    first = (tmp_path / "bench/report.json").read_text()
    assert run("bench", "--workdir", tmp_path, "--threads", "2", *QUICK[:-2]) == 1
    assert (tmp_path / "bench/report.json").read_text() != first
    (tmp_path / "bench/report.json").write_text('{"schema": 10000}')
    assert run("bench", "--workdir", tmp_path, *QUICK) == 1
    assert (tmp_path / "bench/report.json").read_text() == '{"schema": 10000}'


@pytest.mark.parametrize("size", ["128", "0x10", "axb", "1x2x3", "10x-4", "99999x10"])
def test_a_size_that_is_none_is_wrong_usage(tmp_path: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--workdir", tmp_path, "--size", size) == 2
    assert "128x128" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--min-seconds", "nan"), ("--min-seconds", "inf"), ("--threads", "99999")],
)
def test_a_run_that_could_not_end_is_wrong_usage(tmp_path: Path, option: str, value: str) -> None:
    assert run("bench", "--workdir", tmp_path, option, value) == 2


def test_an_empty_work_folder_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--workdir", tmp_path) == 1
    assert "drc-deploy export" in capsys.readouterr().err


def test_a_report_folder_that_is_a_file_is_an_error_without_leftovers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "bench").write_text("in the way")
    assert run("bench", "--workdir", tmp_path, *QUICK) == 1
    assert "cannot write" in capsys.readouterr().err
    assert (tmp_path / "bench").read_text() == "in the way"


@pytest.mark.usefixtures("_same_process")
def test_a_suite_measures_tiles_and_batches_of_the_same_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nearest(tmp_path / "n.onnx")
    sizes = ("--size", "70x72", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")
    assert run("bench", "--suite", "matrix", "--workdir", tmp_path, *sizes) == 0
    captured = capsys.readouterr()
    report = read_report(tmp_path / "bench/report.json")
    names = {engine.name for engine in report.engines}
    assert {"n.onnx", "n.onnx, tiles of 64"} <= names
    assert all(f"    {name}\n" in captured.err for name in names)
    assert len({engine.quality.psnr_y for engine in report.engines}) == 1  # nearest neighbour has no seams
    assert not (tmp_path / "bench/suite.state").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--suite-seconds", "5"),
        ("--suite", "matrix", "--suite-seconds", "nan"),
        ("--case-seconds", "0"),
        ("--case-seconds", "inf"),
        ("--against", "everyone"),
        ("--suite", "all"),
        ("--suite", "matrix", "--precision", "bf16"),
    ],
)
def test_impossible_suites_and_peers_are_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run("bench", "--workdir", tmp_path, *arguments) == 2


@pytest.mark.usefixtures("_same_process")
def test_a_peer_that_is_not_installed_is_not_measured_and_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_nearest(tmp_path / "n.onnx")
    assert run("bench", "--workdir", tmp_path, "--against", "trtexec", *QUICK) == 0
    assert "skipped: trtexec: trtexec is not installed. It comes with" in capsys.readouterr().out
