import dataclasses
import itertools
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper
from safetensors.numpy import save_file

from drc_deploy import records
from drc_deploy.bench.report.records import Case, LeftOut, Report
from drc_deploy.bench.report.report_files import REPORT_FILE, KeptReport, read_report
from drc_deploy.bench.run.engines import MeasuredEngine
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.suite.halves import NO_HALVES, Halves
from drc_deploy.bench.suite.open_case import open_case
from drc_deploy.bench.suite.run import FINISHED_FOLDER, MatrixSuite
from drc_deploy.checkpoint_info import METADATA_KEY, CheckpointInfo
from drc_deploy.cli.commands import bench_command
from drc_deploy.engine_info import METADATA_KEY as ENGINE_KEY
from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.pairs import Photograph
from drc_deploy.runtime.tiling.strips import tile_batches
from drc_deploy.runtime.upscaler import Upscaler
from tests.bench.fakes import OpenFake, start
from tests.runtime.networks import write_nearest


def open_fake_case(path: Path, threads: int | None, _case: Case) -> Upscaler:
    return OpenFake(path, threads)()


def checkpoint(path: Path) -> None:
    """Write a file that says what a checkpoint says, each of another content."""
    info = CheckpointInfo("drn_xs", 4, (8,), 0, 1, {}, None, "progressive")
    save_file({path.stem: np.zeros(1)}, path, metadata={METADATA_KEY: records.to_json(info)})


@pytest.fixture
def options(tmp_path: Path) -> BenchOptions:
    pair = Photograph(sample_images()[0]).load(4)
    for name, image in (("HR", pair.hr[:64, :64]), ("LRx4", pair.lr[:16, :16])):
        (tmp_path / "data" / name).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / "data" / name / "0.png"), image[:, :, ::-1])
    (tmp_path / "work").mkdir()
    for name in ("a", "b"):
        checkpoint(tmp_path / f"work/{name}.safetensors")
    work = tmp_path / "work"
    return BenchOptions((), work, work / "bench", tmp_path / "data", None, 16, 16, 8, 0.0, None)


def suite(options: BenchOptions, seconds: float | None = None) -> MatrixSuite:
    return MatrixSuite(options, seconds, open_fake_case, lambda: NO_HALVES, start)


def finished(options: BenchOptions) -> Report:
    return list(suite(options).reports())[-1]


def names(report: Report) -> list[str]:
    return [engine.name for engine in report.engines]


def test_every_case_is_in_the_report_with_its_group(options: BenchOptions) -> None:
    report = finished(options)
    assert names(report) == ["a.safetensors", "b.safetensors"]
    assert report.suite
    assert report.suite.complete
    assert [group.cases for group in report.suite.groups] == [("a.safetensors",), ("b.safetensors",)]
    assert [engine.case and engine.case.group for engine in report.engines] == [
        group.name for group in report.suite.groups
    ]
    assert "--suite matrix" in report.settings.command
    assert "Only cases of one group took turns" in report.warnings[0]
    assert records.from_dict(Report, records.to_dict(report), "itself") == report


def test_a_stopped_suite_is_marked_and_goes_on_behind_what_was_measured(options: BenchOptions) -> None:
    (stopped,) = itertools.islice(suite(options).reports(), 1)
    assert stopped.suite
    assert not stopped.suite.complete
    assert stopped.warnings[0] == "This report is incomplete: 1 cases were not reached."
    assert [(item.name, item.reason) for item in stopped.not_measured] == [
        ("b.safetensors", "the suite stopped before it.")
    ]
    whole = finished(options)
    assert whole.engines[0] == stopped.engines[0]  # the very samples: it was not measured again
    assert names(whole) == ["a.safetensors", "b.safetensors"]
    assert whole.suite
    assert whole.suite.complete
    assert whole.not_measured == ()
    assert "1 of the groups were measured earlier, by a run that was stopped." in whole.warnings
    assert not any("measured earlier" in warning for warning in stopped.warnings)


def test_a_killed_suite_leaves_what_the_group_at_work_has(
    options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, folder = suite(options).reports(), options.out
    next(reports)
    assert not (folder / "unfinished.json").exists()  # that group is whole
    stream = MeasuredEngine.measure_stream
    left: list[Report] = []

    def seen(engine: MeasuredEngine, min_seconds: float) -> None:
        left.append(read_report(folder / "unfinished.json"))
        stream(engine, min_seconds)

    monkeypatch.setattr(MeasuredEngine, "measure_stream", seen)
    next(reports)
    assert names(left[0]) == ["b.safetensors"]
    assert not (folder / "unfinished.json").exists()


@pytest.mark.parametrize("what", ["engine", "settings", "image", "state", "figure", "folder"])
def test_what_changed_is_measured_again(options: BenchOptions, what: str) -> None:
    (stopped,) = itertools.islice(suite(options).reports(), 1)
    if what == "engine":
        save_file({"other": np.zeros(2)}, options.workdir / "a.safetensors", metadata=_metadata(options))
    if what == "settings":
        options = dataclasses.replace(options, min_runs=16)
    if what == "image":
        assert options.data
        (options.data / "HR/0.png").touch()
    if what == "state":
        (kept,) = (options.out / FINISHED_FOLDER).iterdir()
        kept.write_text(kept.read_text()[:-20])
    if what == "figure":
        (kept,) = (options.out / FINISHED_FOLDER).iterdir()
        before = kept.read_text()
        kept.write_text(before.replace('"median_ms": ', '"median_ms": 1', 1))
        assert kept.read_text() != before
    if what == "folder":
        (kept,) = (options.out / FINISHED_FOLDER).iterdir()
        kept.unlink()
        kept.mkdir()
    assert finished(options).engines[0].latency != stopped.engines[0].latency


def _metadata(options: BenchOptions) -> dict[str, str]:
    return {METADATA_KEY: records.to_json(CheckpointInfo("drn_xs", 4, (8,), 0, 1, {}, None, "progressive"))}


def test_a_finished_suite_begins_anew_once_it_is_forgotten(options: BenchOptions) -> None:
    first = suite(options)
    report = list(first.reports())[-1]
    first.forget()
    assert not (options.out / FINISHED_FOLDER).exists()
    assert finished(options).engines[0].latency != report.engines[0].latency


def test_no_group_begins_after_the_time_is_over(options: BenchOptions) -> None:
    assert list(suite(options, 0.0).reports()) == []
    (_,) = itertools.islice(suite(options).reports(), 1)
    (report,) = suite(options, 0.0).reports()  # what was kept costs no time
    assert report.suite
    assert not report.suite.complete


def with_bf16() -> Halves:
    return Halves(("bf16",), (LeftOut("checkpoints in fp16", "it is slow here"),))


def test_half_precision_is_a_case_of_its_own_in_the_report(options: BenchOptions) -> None:
    (*_, report) = MatrixSuite(options, None, open_fake_case, with_bf16, start).reports()
    assert report.suite
    assert [(engine.name, engine.case and engine.case.precision) for engine in report.engines] == [
        ("a.safetensors", None),
        ("a.safetensors, bf16", "bf16"),
        ("b.safetensors", None),
        ("b.safetensors, bf16", "bf16"),
    ]
    assert report.suite.groups[0].cases == ("a.safetensors", "a.safetensors, bf16")
    assert LeftOut("checkpoints in fp16", "it is slow here") in report.suite.left_out
    assert records.from_dict(Report, records.to_dict(report), "itself") == report


def test_torch_is_asked_only_where_there_is_a_checkpoint(options: BenchOptions) -> None:
    def never() -> Halves:
        raise AssertionError("there is no checkpoint")

    for path in options.workdir.glob("*.safetensors"):
        path.unlink()
    (options.workdir / "a.plan").write_bytes(b"plan")
    planned = MatrixSuite(options, None, open_fake_case, never).matrix
    assert [case.file.name for group in planned.groups for case in group] == ["a.plan"]


def test_a_case_is_computed_in_its_precision() -> None:
    pytest.importorskip("torch")
    image = sample_images()[0]
    pixels = Photograph(image).load(4).lr[:16, :24]
    results = {}
    for precision in (None, "bf16"):
        case = Case("g", "default", None, None, precision)
        engine = open_case(SHIPPED / "drn_xs.safetensors", 1, case)
        results[engine.info.precision] = engine(pixels).astype(int)
        assert engine.device.endswith(engine.info.precision)
        engine.close()
    assert list(results) == ["fp32", "bf16"]
    difference = np.abs(results["fp32"] - results["bf16"])
    assert 0 < difference.max() <= 8  # really computed with fewer bits, and still the same picture


@pytest.mark.slow
def test_a_case_that_hangs_is_out_and_the_rest_goes_on(options: BenchOptions) -> None:
    (options.workdir / "a.safetensors").rename(options.workdir / "stalls.safetensors")
    report = finished(dataclasses.replace(options, case_seconds=4.0))
    assert names(report) == ["b.safetensors"]
    (failure,) = report.not_measured
    assert (failure.name, failure.kind) == ("stalls.safetensors", "failed")
    assert failure.reason == "it took longer than 4 s in all."


def test_a_damaged_engine_stands_in_the_report(options: BenchOptions) -> None:
    (options.workdir / "a.safetensors").write_bytes(b"damaged")
    report = finished(options)
    assert names(report) == ["b.safetensors"]
    assert [(item.name, item.kind) for item in report.not_measured] == [("a.safetensors", "failed")]


def test_only_damaged_engines_are_an_error(options: BenchOptions) -> None:
    for name in "ab":
        (options.workdir / f"{name}.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match="no engine can be read"):
        suite(options)


def test_a_full_disk_costs_only_what_would_have_been_kept(
    options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot write: No space left on device.")

    monkeypatch.setattr(KeptReport, "keep", full)
    monkeypatch.setattr("drc_deploy.bench.suite.run.write_part", full)
    report = finished(options)
    assert names(report) == ["a.safetensors", "b.safetensors"]
    assert any("could not be kept" in warning and "No space left" in warning for warning in report.warnings)


def test_ctrl_c_leaves_a_report_of_what_was_measured(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MatrixSuite.reports

    def stopped(self: MatrixSuite):  # type: ignore[no-untyped-def] # noqa: ANN202
        self._open_case, self._start = open_fake_case, start
        yield next(whole(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(MatrixSuite, "reports", stopped)
    with pytest.raises(KeyboardInterrupt):
        bench_command._run_suite(options, None, as_json=True)
    report = read_report(options.out / REPORT_FILE)
    assert {name.partition(",")[0] for name in names(report)} == {"a.safetensors"}  # also in what this machine has
    assert "incomplete" in report.warnings[0]
    assert (options.out / FINISHED_FOLDER).is_dir()


@pytest.mark.parametrize(("batch", "largest"), [(None, 1), (2, 2)])
def test_a_case_computes_as_many_tiles_a_call_as_it_says(tmp_path: Path, batch: int | None, largest: int) -> None:
    info = write_nearest(tmp_path / "n.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    helper.set_model_props(model, {ENGINE_KEY: dataclasses.replace(info, max_batch=4).to_json()})
    onnx.save(model, tmp_path / "n.onnx")
    image = np.random.default_rng(0).integers(0, 256, (70, 200, 3), np.uint8)
    with open_case(tmp_path / "n.onnx", 1, Case("g", "default", 64, batch, None)) as engine:
        sizes = [len(tiles) for tiles in tile_batches(engine.backend, image, engine.plan(70, 200))]
        np.testing.assert_array_equal(engine(image), image.repeat(4, 0).repeat(4, 1))
    assert max(sizes) == largest
