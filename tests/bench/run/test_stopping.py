"""A run that is stopped half way ends with a report of what was measured."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.bench.measure.layer_times import not_told
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import read_report, write_report
from drc_deploy.bench.run import benchmark as campaign
from drc_deploy.bench.run import stopping as unfinished
from drc_deploy.bench.run.benchmark import STREAM_ROUNDS, BenchOptions
from drc_deploy.bench.run.engines import Contestant
from drc_deploy.bench.run.stopping import AT_ONCE, GentleStop, Unfinished
from drc_deploy.bench.show.console import report_table
from drc_deploy.bench.show.page import write_page
from drc_deploy.bench.show.publish import publish
from drc_deploy.files import write_text
from drc_deploy.locate import sample_images
from tests.bench.fakes import OpenFake
from tests.bench.fakes import report as made_report
from tests.runtime.networks import write_nearest

IMAGES = len(sample_images())


class EndedError(Exception):
    """What the handlers that were there before raise."""


@pytest.fixture
def _raising_handlers() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise EndedError

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("_raising_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_takes_effect_at_the_end(number: signal.Signals) -> None:
    asked = []

    def block() -> None:
        with GentleStop() as stop:
            stop.begin()
            asked.append(stop.asked)
            send(number)
            asked.append(stop.asked)

    with pytest.raises(EndedError):
        block()
    assert asked == [False, True]
    with pytest.raises(EndedError):  # the handlers are those of before
        send(number)


@pytest.mark.usefixtures("_raising_handlers")
@pytest.mark.parametrize("noted", [False, True])
def test_a_second_signal_and_one_with_nothing_to_keep_end_at_once(noted: bool) -> None:
    stop, rest = GentleStop(), []

    def block() -> None:
        with stop:
            if noted:
                stop.begin()
                send(signal.SIGINT)
            send(signal.SIGTERM)
            rest.append("of the block")

    with pytest.raises(EndedError):
        block()
    assert not rest


@pytest.mark.usefixtures("_raising_handlers")
def test_a_run_whose_report_nobody_fetches_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AT_ONCE, "1")
    with GentleStop() as stop:
        stop.begin()
        with pytest.raises(EndedError):
            send(signal.SIGTERM)


@pytest.mark.usefixtures("_raising_handlers")
def test_a_stop_is_noted_where_nobody_reads_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    silenced: list[int] = []
    monkeypatch.setattr("drc_deploy.bench.run.stopping.click.echo", broken)
    monkeypatch.setattr("drc_deploy.bench.run.stopping.os.dup2", lambda _, number: silenced.append(number))
    asked = []

    def block() -> None:
        with GentleStop() as stop:
            stop.begin()
            send(signal.SIGINT)
            asked.append(stop.asked)

    with pytest.raises(EndedError):
        block()
    assert (asked, silenced) == ([True], [2])


def test_a_run_without_signals_ends_as_ever() -> None:
    with GentleStop() as stop:
        stop.begin()
    assert not stop.asked


@pytest.mark.usefixtures("_raising_handlers")
@pytest.mark.parametrize(
    ("question", "call", "rounds", "images"),
    [
        ("measure_round", 1, 1, 1),  # of the second engine
        ("measure_round", 4, 3, 1),  # in the middle of the third round, which is ended
        ("measure_stream", 0, 8, 1),
        ("measure_fidelity", 0, 8, 1),
        ("score", 3, 8, 2),
        ("score", 2 * IMAGES - 1, 8, IMAGES),
    ],
)
def test_what_was_measured_is_reported_of_all_engines_alike(
    question: str, call: int, rounds: int, images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"an engine")
    interrupt_at(question, call, monkeypatch)
    options = BenchOptions((), tmp_path, tmp_path / "bench", None, None, 24, 32, 16, 0.01, None)
    with pytest.raises(EndedError):
        bench_and_write(options, begun=rounds == 1)  # else the first round is what there is to keep
    report = read_report(options.out / "report.json")
    assert "stopped" in write_page(report, options.out).read_text()
    assert "stopped" in report_table(report)
    assert {len(engine.latency.rounds_ms) for engine in report.engines} == {rounds}
    assert {engine.quality.images for engine in report.engines} == {images}
    assert {baseline.quality.images for baseline in report.baselines} == {images}
    assert f"{rounds} of 8 rounds" in report.warnings[0]
    assert f"{images} of {IMAGES} images" in report.warnings[0]
    assert not report.crops
    assert all(engine.layers == not_told("the run ended before") for engine in report.engines)


def bench_and_write(options: BenchOptions, *, begun: bool) -> None:
    """Do as the command does."""
    with GentleStop() as stop:
        if begun:
            stop.begin()
        write_report(campaign.run_bench(options, OpenFake, stop=stop), options.out)


def interrupt_at(question: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ``call``-th call of a method of ``Contestant``, from 0, send a signal after it."""
    ask: Callable[..., Any] = getattr(Contestant, question)
    calls = itertools.count()

    def asked(*arguments: Any, **options: Any) -> Any:
        answer = ask(*arguments, **options)
        if next(calls) == call:
            send(signal.SIGTERM)
        return answer

    monkeypatch.setattr(Contestant, question, asked)


def test_the_command_ends_as_one_that_was_stopped_and_leaves_its_report(tmp_path: Path) -> None:
    done = bench_that_ends_itself("os.killpg(0, signal.SIGTERM)", tmp_path)  # as `timeout` and systemd do
    assert done.returncode == 128 + signal.SIGTERM
    assert "Stopping: a report of what was measured follows." in done.stderr
    assert "2 of 8 rounds" in done.stdout
    (engine,) = read_report(tmp_path / "out/report.json").engines
    assert len(engine.latency.rounds_ms) == 2
    assert (tmp_path / "out/report.html").is_file()
    assert not (tmp_path / "out/unfinished.json").exists()


def test_a_command_that_is_killed_leaves_what_it_measured(tmp_path: Path) -> None:
    done = bench_that_ends_itself("os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]
    left = read_report(tmp_path / "out/unfinished.json")
    assert len(left.engines[0].latency.rounds_ms) == left.settings.rounds == 1
    page = Path(publish([tmp_path / "out/unfinished.json"], None, tmp_path).files["page"])
    assert "The run did not come to its end: latencies are of 1 of 8 rounds" in page.read_text()


def bench_that_ends_itself(how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command until two rounds of its engine are measured."""
    write_nearest(folder / "n.onnx")
    program = (
        "import os, signal, sys\n"
        "from drc_deploy.bench.run.engines import Contestant\n"
        "from drc_deploy.cli.main import main\n"
        "measure = Contestant.measure_round\n"
        "def stopped(self, *arguments):\n"
        "    measure(self, *arguments)\n"
        "    if len(self.rounds) == 2:\n"
        f"        {how}\n"
        "Contestant.measure_round = stopped\n"
        f"main(['bench', {str(folder / 'n.onnx')!r}, '--out', {str(folder / 'out')!r}, '--size', '16x16',\n"
        "      '--min-runs', '16', '--min-seconds', '0'])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        start_new_session=True,
    )


@pytest.mark.usefixtures("_every_version")
def test_what_is_kept_of_a_run_is_part_of_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.onnx", "b.onnx", "fails.onnx"):
        (tmp_path / name).write_bytes(b"an engine")
    versions: list[Report] = []

    def kept(path: Path, text: str) -> None:
        write_text(path, text)
        versions.append(read_report(path))

    monkeypatch.setattr(unfinished, "write_text", kept)
    options = BenchOptions((), tmp_path, tmp_path / "bench", None, None, 24, 32, 16, 0.01, None)
    report = campaign.run_bench(options, OpenFake)
    assert [(version.settings.rounds, version.engines[0].quality.images) for version in versions] == [
        *((number, 1) for number in range(1, 9)),
        *((8, 1) for _ in range(STREAM_ROUNDS)),
        *((8, number) for number in range(2, IMAGES + 1)),
        (8, IMAGES),  # before crops
    ]
    assert versions[-1].not_measured == report.not_measured
    for version in versions:
        assert all(engine.layers == not_told("the run ended before") for engine in version.engines)
        for part, whole in zip(version.engines, report.engines, strict=True):
            assert part.latency.rounds_ms == whole.latency.rounds_ms[: version.settings.rounds]
            assert part.quality.rows == whole.quality.rows[: part.quality.images]
            assert part.peak_host_memory == whole.peak_host_memory
    assert [engine.measurement for engine in versions[-1].engines] == [engine.measurement for engine in report.engines]
    assert [version.engines[0].measurement for version in versions[:8]] == [None] * 8


@pytest.fixture
def _every_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "EVERY_S", 0.0)


def test_a_version_is_written_now_and_then_and_a_full_disk_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, made = [0.0], []
    monkeypatch.setattr("drc_deploy.bench.run.stopping.time.monotonic", lambda: seconds[0])
    (tmp_path / "file").write_text("")

    def so_far() -> Report:
        made.append(seconds[0])
        return made_report()

    for folder in (tmp_path / "out", tmp_path / "file/out"):
        kept = Unfinished(folder)
        for seconds[0] in (0.0, 4.0, 9.9, 10.0, 12.0, 25.0):
            kept.keep(so_far)
        seconds[0] = 26.0
        kept.keep(so_far, at_once=True)
        assert kept.path.exists() == (folder.parent == tmp_path)
        kept.forget()
        assert not kept.path.exists()
    assert made == [0.0, 10.0, 25.0, 26.0] * 2


def test_a_run_that_fails_leaves_what_all_engines_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = two_engines(tmp_path)
    fail_at("measure_round", 5, monkeypatch)  # the first engine has had its third round, the second has not
    with pytest.raises(EndedError):
        campaign.run_bench(options, OpenFake)
    left = read_report(options.out / "unfinished.json")
    assert [len(engine.latency.rounds_ms) for engine in left.engines] == [2, 2]
    fail_at("score", 5, monkeypatch)
    with pytest.raises(EndedError):
        campaign.run_bench(options, OpenFake)
    left = read_report(options.out / "unfinished.json")
    assert [engine.quality.images for engine in left.engines] == [2, 2]
    assert [baseline.quality.images for baseline in left.baselines] == [2]


def test_what_another_run_left_is_none_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = two_engines(tmp_path)
    Unfinished(options.out).keep(made_report)
    fail_at("warm_up", 0, monkeypatch)
    with pytest.raises(EndedError):
        campaign.run_bench(options, OpenFake)
    assert not (options.out / "unfinished.json").exists()


def two_engines(folder: Path) -> BenchOptions:
    for name in ("a.onnx", "b.onnx"):
        (folder / name).write_bytes(b"an engine")
    return BenchOptions((), folder, folder / "bench", None, None, 24, 32, 16, 0.01, None)


def fail_at(question: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ``call``-th call of a method of ``Contestant``, from 0, end the run."""
    ask: Callable[..., Any] = getattr(Contestant, question)
    calls = itertools.count()

    def asked(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise EndedError
        return ask(*arguments, **options)

    monkeypatch.setattr(Contestant, question, asked)
