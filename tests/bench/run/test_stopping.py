"""A run that ends early leaves a report of what was measured."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.bench.measure.layer_times import unknown_layers
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import KeptReport, read_report
from drc_deploy.bench.run import benchmark
from drc_deploy.bench.run.benchmark import STREAM_ROUNDS
from drc_deploy.bench.run.engines import MeasuredEngine
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.show.publish import publish
from drc_deploy.cli.commands import bench_command
from drc_deploy.errors import OutputError
from drc_deploy.locate import sample_images
from tests.bench.fakes import OpenFake, bench, start
from tests.bench.fakes import report as made_report
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest

IMAGES = len(sample_images())


@pytest.fixture
def options(tmp_path: Path) -> BenchOptions:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"an engine")
    return BenchOptions((), tmp_path, tmp_path / "bench", None, None, 24, 32, 16, 0.01, None)


@pytest.fixture
def _fake_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "run_bench", partial(benchmark.run_bench, open_engine=OpenFake, start=start))


def stop_at(question: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ``call``-th call of a method of ``MeasuredEngine``, from 0, stop the run as Ctrl-C does."""
    ask: Callable[..., Any] = getattr(MeasuredEngine, question)
    calls = itertools.count()

    def asked(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return ask(*arguments, **options)

    monkeypatch.setattr(MeasuredEngine, question, asked)


@pytest.mark.usefixtures("_fake_engines")
@pytest.mark.parametrize(
    ("question", "call", "rounds", "images"),
    [
        ("measure_round", 5, 2, 1),  # of the second engine: the first has had its third round
        ("measure_stream", 0, 8, 1),
        ("measure_fidelity", 0, 8, 1),
        ("score", 3, 8, 1),
        ("score", 5, 8, 2),
    ],
)
def test_what_all_engines_have_is_reported_when_a_run_is_stopped(
    question: str,
    call: int,
    rounds: int,
    images: int,
    options: BenchOptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_at(question, call, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        bench_command._run_here(options, as_json=False)
    report = read_report(options.out / "report.json")
    assert "The run ended early." in capsys.readouterr().out
    assert "The run ended early." in (options.out / "report.html").read_text()
    assert {len(engine.latency.rounds_ms) for engine in report.engines} == {rounds}
    assert {engine.quality.images for engine in report.engines} == {images}
    assert {baseline.quality.images for baseline in report.baselines} == {images}
    assert f"{rounds} of 8 rounds" in report.warnings[0]
    assert f"{images} of {IMAGES} images" in report.warnings[0]
    assert report.telemetry
    assert not report.crops
    assert all(engine.layers == unknown_layers("the run ended before") for engine in report.engines)
    assert not (options.out / "unfinished.json").exists()


@pytest.mark.usefixtures("_fake_engines")
def test_a_run_without_a_whole_round_leaves_nothing(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at("measure_round", 1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        bench_command._run_here(options, as_json=False)
    assert list(options.out.iterdir()) == []


@pytest.mark.usefixtures("_fake_engines")
def test_a_second_stop_ends_at_once(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    stop_at("measure_stream", 0, monkeypatch)
    monkeypatch.setattr(bench_command, "_publish", stopped)
    with pytest.raises(KeyboardInterrupt):
        bench_command._run_here(options, as_json=False)
    assert [path.name for path in options.out.iterdir()] == ["unfinished.json"]


@pytest.mark.usefixtures("_fake_engines")
def test_a_stopped_run_leaves_its_report_where_nobody_reads_what_it_prints(
    options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    stop_at("measure_stream", 0, monkeypatch)
    monkeypatch.setattr("drc_deploy.cli.options.emit", broken)
    with pytest.raises(BrokenPipeError):
        bench_command._run_here(options, as_json=False)
    assert read_report(options.out / "report.json").settings.rounds == 8


def test_the_command_ends_as_one_that_was_stopped_and_leaves_its_report(tmp_path: Path) -> None:
    done = bench_that_ends_itself("os.killpg(0, signal.SIGTERM)", tmp_path)  # as `timeout` and systemd do
    assert done.returncode == 128 + signal.SIGTERM
    assert "1 of 8 rounds" in done.stdout
    (engine,) = read_report(tmp_path / "out/report.json").engines
    assert len(engine.latency.rounds_ms) == 1
    assert (tmp_path / "out/report.html").is_file()
    assert not (tmp_path / "out/unfinished.json").exists()


def test_a_command_that_is_killed_leaves_what_it_measured(tmp_path: Path) -> None:
    done = bench_that_ends_itself("os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]
    left = read_report(tmp_path / "out/unfinished.json")
    assert len(left.engines[0].latency.rounds_ms) == left.settings.rounds == 1
    page = Path(publish([tmp_path / "out/unfinished.json"], None, tmp_path).files["page"])
    assert "The run ended early. Latencies are of 1 of 8 rounds" in page.read_text()


def bench_that_ends_itself(how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command until its engine has had two rounds, before the second one counts."""
    write_nearest(folder / "n.onnx")
    program = (
        "import os, signal, sys\n"
        "from drc_deploy.bench.run.engines import MeasuredEngine\n"
        "from drc_deploy.cli.main import main\n"
        "measure = MeasuredEngine.measure_round\n"
        "def stopped(self, *arguments):\n"
        "    measure(self, *arguments)\n"
        "    if len(self.rounds) == 2:\n"
        f"        {how}\n"
        "MeasuredEngine.measure_round = stopped\n"
        f"main(['bench', {str(folder / 'n.onnx')!r}, '--out', {str(folder / 'out')!r}, '--size', '16x16',\n"
        "      '--min-runs', '16', '--min-seconds', '0'])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        start_new_session=True,
    )


def test_what_is_kept_of_a_run_is_part_of_its_report(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    (options.workdir / "fails.onnx").write_bytes(b"an engine")
    versions = kept_versions(monkeypatch)
    monkeypatch.setattr(benchmark, "KEEP_S", 0.0)
    report = bench(options)
    assert [(version.settings.rounds, version.engines[0].quality.images) for version in versions] == [
        *((number, 1) for number in range(1, 9)),
        *((8, 1) for _ in range(STREAM_ROUNDS)),
        *((8, number) for number in range(2, IMAGES + 1)),
        (8, IMAGES),  # before crops
    ]
    assert versions[-1].not_measured == report.not_measured
    for version in versions:
        assert all(engine.layers == unknown_layers("the run ended before") for engine in version.engines)
        for part, whole in zip(version.engines, report.engines, strict=True):
            assert part.latency.rounds_ms == whole.latency.rounds_ms[: version.settings.rounds]
            assert part.quality.rows == whole.quality.rows[: part.quality.images]
            assert part.peak_host_memory == whole.peak_host_memory
    assert [engine.measurement for engine in versions[-1].engines] == [engine.measurement for engine in report.engines]
    assert [version.engines[0].measurement for version in versions[:8]] == [None] * 8


def kept_versions(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """Return a list of what is read from the file of a run each time it was written."""
    versions: list[Report] = []
    keep = KeptReport.keep

    def kept(self: KeptReport, report: Report) -> None:
        keep(self, report)
        versions.append(read_report(self.path))

    monkeypatch.setattr(KeptReport, "keep", kept)
    return versions


def test_a_version_is_written_now_and_then(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = kept_versions(monkeypatch)
    monkeypatch.setattr(benchmark, "KEEP_S", 3600.0)
    bench(options)
    assert [version.settings.rounds for version in versions] == [1, 8]


def test_a_full_disk_stops_no_run(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space is left.")

    monkeypatch.setattr(KeptReport, "keep", full)
    assert bench(options).settings.rounds == 8


@pytest.mark.usefixtures("_fake_engines")
def test_what_another_run_left_is_none_of_this_one(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    KeptReport(options.out / "unfinished.json").keep(made_report())
    stop_at("warm_up", 0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        bench_command._run_here(options, as_json=False)
    assert list(options.out.iterdir()) == []
