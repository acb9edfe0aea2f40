"""Telemetry in a whole benchmark run."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from drc_deploy.bench.machine.telemetry.instruments import Instruments
from drc_deploy.bench.machine.telemetry.sensors import Meter
from drc_deploy.bench.machine.telemetry.summary import ClockDrop, engine_warnings
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import read_report, write_report
from drc_deploy.bench.run import watch
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.show.console import report_table
from drc_deploy.errors import DrcDeployError
from tests.bench import fakes
from tests.bench.fakes import OpenFake, bench
from tests.bench.machine.telemetry.trees import instruments, source_of

METER = Meter("module", "all", "power", ("VDD_IN",), resolution_s=0.01)


def powered() -> Instruments:
    """Return a machine whose module draws 12.5 W whatever happens."""
    return instruments(source_of(lambda: 12.5), METER)


@pytest.fixture(autouse=True)
def _short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "IDLE_S", 0.1)


def options(folder: Path, *names: str) -> BenchOptions:
    for name in names:
        (folder / name).write_bytes(b"an engine")
    return BenchOptions(names, folder, folder / "bench", None, None, 24, 32, 16, 0.4, None)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "IDLE_S", 0.1)
        return bench(options(folder, "good.onnx", "also.onnx"), OpenFake, powered)


def test_the_energy_of_an_image_is_the_power_times_what_a_run_took(report: Report) -> None:
    for engine in report.engines:
        assert engine.telemetry is not None
        energy = engine.telemetry.energy
        assert energy is not None
        assert energy.mean_power_w == pytest.approx(12.5)
        assert energy.idle_power_w == pytest.approx(12.5)
        seconds = sum(end - start for start, end in engine.telemetry.rounds_s)
        assert energy.per_image_j == pytest.approx(12.5 * seconds / engine.latency.runs)
        assert energy.per_image_j == pytest.approx(12.5 * engine.latency.mean_ms / 1000, rel=0.2)  # a loop's overhead
        assert energy.covered > 0.5
        assert energy.covers == "module"


def test_the_rounds_of_the_engines_take_turns_inside_the_trace(report: Report) -> None:
    assert report.telemetry is not None
    windows = sorted(window for engine in report.engines if engine.telemetry for window in engine.telemetry.rounds_s)
    assert len(windows) == 2 * report.settings.rounds
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(windows))
    (track,) = report.telemetry.trace.tracks
    assert track.times_s[0] < windows[0][0]
    assert track.times_s[-1] >= windows[-1][1] - 0.1
    assert report.telemetry.idle_s is not None
    assert report.telemetry.idle_s[1] < windows[0][0]


def test_the_trace_goes_through_the_report_file(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path)
    assert read_report(path) == report
    assert "NaN" not in path.read_text()


def test_the_console_shows_energy_what_it_is_of_and_what_it_cost(report: Report) -> None:
    text = report_table(report)
    assert "J per image" in text
    assert "J per image is of module (VDD_IN); idle power is not subtracted." in text
    assert "Sampled power of module (VDD_IN)" in text
    assert "of one core" in text


def test_a_sensor_that_vanishes_in_the_middle_does_not_end_the_run(tmp_path: Path) -> None:
    readings = itertools.count()

    def read() -> float:
        if next(readings) == 5:
            raise FileNotFoundError(2, "No such file or directory")
        return 9.0

    report = bench(options(tmp_path, "good.onnx"), OpenFake, lambda: instruments(source_of(read), METER))
    (engine,) = report.engines
    assert report.telemetry is not None
    assert "No such file or directory" in report.telemetry.notes[0]
    assert "warning: VDD_IN: " in report_table(report)
    assert engine.telemetry is not None
    assert (engine.telemetry.energy is None) == ("energy" in engine.telemetry.unavailable)


def test_a_machine_that_reports_nothing_is_measured_all_the_same(tmp_path: Path) -> None:
    bare = dataclasses.replace(powered(), sources=[], meters=[], missing={"power": "there is no meter"})
    report = bench(options(tmp_path, "good.onnx"), OpenFake, lambda: bare)
    (engine,) = report.engines
    assert report.telemetry is not None
    assert engine.telemetry is not None
    assert engine.telemetry.energy is None
    assert engine.telemetry.throttle_reasons is None
    assert engine.telemetry.unavailable["energy"] == "there is no meter"
    assert report.telemetry.idle_s is None
    assert "J per image" not in report_table(report)
    assert report_table(report).count("No sensors for power") == 1


def test_throttling_is_a_warning_of_the_report(tmp_path: Path) -> None:
    limit = source_of(lambda: 1.0, "throttle", "software power cap")
    report = bench(options(tmp_path, "good.onnx"), OpenFake, lambda: instruments(limit))
    assert "The machine was throttled while good.onnx was timed: software power cap." in report.warnings


def test_a_clock_that_falls_is_a_warning_with_both_values(report: Report) -> None:
    (engine, _) = report.engines
    assert engine.telemetry is not None
    fallen = dataclasses.replace(engine.telemetry, clock_drops=(ClockDrop("GPU clock", 1300.0, 918.0),))
    (warning,) = engine_warnings("a.plan", fallen)
    assert "Clocks fell while a.plan was timed: GPU clock from 1300 to 918 MHz." in warning


def test_a_calm_machine_is_no_warning(report: Report) -> None:
    for engine in report.engines:
        assert engine.telemetry is not None
        assert [text for text in engine_warnings(engine.name, engine.telemetry) if "energy" not in text] == []


def test_a_run_that_ends_with_an_error_closes_what_it_opened(tmp_path: Path) -> None:
    closed: list[bool] = []
    source = dataclasses.replace(source_of(lambda: 1.0), close=lambda: closed.append(True))
    broken = dataclasses.replace(options(tmp_path, "good.onnx"), lr_folder="no such folder", data=tmp_path / "HR")
    with pytest.raises(DrcDeployError):
        bench(broken, OpenFake, lambda: instruments(source))
    stopped = watch.Watch(lambda: instruments(source))
    with pytest.raises(KeyboardInterrupt), stopped:
        raise KeyboardInterrupt
    assert closed == [True]


def test_fakes_without_telemetry_have_no_line_of_it() -> None:
    assert "Sampled" not in report_table(fakes.report(fakes.engine("a", 1.0)))
