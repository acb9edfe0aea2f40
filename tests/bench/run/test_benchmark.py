import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from drc_deploy.bench.measure.layer_times import unknown_layers
from drc_deploy.bench.measure.timing import TimingBudget
from drc_deploy.bench.report.records import Report
from drc_deploy.bench.report.report_files import read_report, write_report
from drc_deploy.bench.run.benchmark import ROUNDS, STREAM_ROUNDS
from drc_deploy.bench.run.engines import MeasuredEngine
from drc_deploy.bench.run.inputs import BenchOptions
from drc_deploy.bench.show.console import report_table
from drc_deploy.engine_info import Precision
from drc_deploy.errors import ArtefactError, InputError, UsageError
from drc_deploy.locate import sample_images
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Photograph
from tests.bench.fakes import OpenFake, bench

NAMES = ("good.onnx", "also.onnx", "fails.onnx", "crashes.onnx", "small.onnx", "gpu.plan", "damaged.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs cut from a photograph, at scale 4 only."""
    folder = tmp_path_factory.mktemp("data")
    for number, path in enumerate(sample_images()[:2]):
        pair = Photograph(path).load(4)
        for name, image in (("HR", pair.hr[:160, :200]), ("LRx4", pair.lr[:40, :50])):
            (folder / name).mkdir(exist_ok=True)
            assert cv2.imwrite(str(folder / name / f"{number}.png"), image[:, :, ::-1])
    return folder


def options(workdir: Path, data: Path | None, *engines: str) -> BenchOptions:
    return BenchOptions(engines, workdir, workdir / "bench", data, None, 24, 32, 16, 0.01, None)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    for name in (*NAMES, "good.float.onnx", "good.widths.json"):
        (folder / name).write_bytes(b"an engine")
    return folder


@pytest.fixture(scope="module")
def report(workdir: Path, data: Path) -> Report:
    return bench(options(workdir, data))


def test_every_engine_of_the_work_folder_has_a_row(report: Report) -> None:
    assert {engine.name for engine in report.engines} == {"good.onnx", "also.onnx"}
    reasons = {item.name: (item.kind, item.reason) for item in report.not_measured}
    assert reasons == {
        "gpu.plan": ("skipped", "it needs a GPU."),
        "damaged.safetensors": ("failed", "it is damaged."),
        "fails.onnx": ("failed", "the network gave NaN."),
        "crashes.onnx": ("failed", "the engine's process ended with signal SIGKILL."),
        "small.onnx": ("failed", "it gave (40, 50, 3) for 0, not (160, 200, 3)."),
    }


def test_samples_are_kept_by_round_and_quality_is_measured_in_the_same_run(report: Report) -> None:
    for engine in report.engines:
        assert len(engine.latency.rounds_ms) == ROUNDS
        assert engine.latency.runs >= 16
        assert engine.quality.images == 2
        assert engine.peak_host_memory.value is not None
        assert engine.quality.psnr_y is not None
        assert engine.quality.psnr_y < (report.baseline(4).psnr_y or 0)  # nearest neighbour against bicubic


def test_everything_else_is_measured_of_every_engine(report: Report) -> None:
    for engine in report.engines:
        assert engine.measurement is not None
        found = engine.measurement
        assert found.engine_only.batch_shape == (1, 24, 32, 3)
        assert len(found.engine_only.image_rounds_ms) == len(found.stability.conditions) == ROUNDS
        assert found.engine_only.latency.median_ms < engine.latency.max_ms
        assert len(found.throughput.rounds) == STREAM_ROUNDS
        rate = found.throughput.images_per_second
        assert found.throughput.output_megapixels_per_second == pytest.approx(rate * 96 * 128 / 1e6)
        assert "neither in" in found.torch.note
        assert found.seam.difference is not None
        assert found.seam.difference.max_levels == 0  # nearest neighbour looks at one pixel
    (comparison,) = report.comparisons
    assert {comparison.engine, comparison.other} == {"good.onnx", "also.onnx"}
    assert report.settings.input_image == "0, 1"


def test_rounds_run_there_and_back(workdir: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    measure = MeasuredEngine.measure_round

    def watched(engine: MeasuredEngine, images: Sequence[UInt8Image], budget: TimingBudget) -> None:
        seen.append(engine.file.name)
        measure(engine, images, budget)

    monkeypatch.setattr(MeasuredEngine, "measure_round", watched)
    bench(options(workdir, data, "good.onnx", "also.onnx"))
    assert seen == ["good.onnx", "also.onnx", "also.onnx", "good.onnx"] * (ROUNDS // 2)


def test_the_terminal_shows_what_was_measured(report: Report) -> None:
    text = report_table(report)
    host = r"-?\d+(%| to -?\d+%) \(.*?"
    assert re.search(rf"good.onnx: network only [\d.]+ ms per batch, host share {host}; stream [\d.]+ images/s", text)
    assert re.search(r"(good|also)\.onnx against .* as fast \([\d.]+ to [\d.]+\)", text)


def test_crops_are_different_parts_in_every_version(report: Report, workdir: Path) -> None:
    assert len({(strip.image, strip.box) for strip in report.crops}) == len(report.crops) == 3
    for strip in report.crops:
        assert [tile.label for tile in strip.tiles] == ["LR", "bicubic", "also.onnx", "good.onnx", "HR"]
        sizes = [cv2.imread(str(workdir / "bench" / tile.file)).shape for tile in strip.tiles]  # type: ignore[union-attr]
        assert sizes == [(24, 24, 3)] + [(96, 96, 3)] * 4


def test_the_report_can_be_read_back_whole(report: Report, tmp_path: Path) -> None:
    assert read_report(write_report(report, tmp_path)) == report


def test_a_crash_while_layers_are_profiled_costs_the_engine_nothing_else(workdir: Path, data: Path) -> None:
    (workdir / "crashes_late.onnx").write_bytes(b"an engine")
    both = bench(options(workdir, data, "crashes_late.onnx", "good.onnx"))
    assert both.not_measured == ()
    notes = {engine.name: engine.layers.note for engine in both.engines}
    assert "SIGKILL" in notes["crashes_late.onnx"]
    assert "fake does not report them" in notes["good.onnx"]


def test_an_engine_of_a_scale_without_images_has_failed(workdir: Path, data: Path) -> None:
    (workdir / "eight_x8.bin.onnx").write_bytes(b"an engine")
    only = bench(options(workdir, data, "eight_x8.bin.onnx"))
    assert only.engines == ()
    assert "there is no folder" in only.not_measured[0].reason
    assert only.summary == "Nothing could be measured."


def test_an_empty_work_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nothing to measure") as caught:
        bench(options(tmp_path, None))
    assert "drc-deploy export" in caught.value.hint


def test_a_folder_of_images_that_is_not_there_ends_the_run_before_it_begins(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        bench(options(workdir, tmp_path / "none"))


def test_a_damaged_image_ends_the_run_before_any_timing(workdir: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/LRx4/1.png").write_bytes(b"no image")
    only = bench(options(workdir, tmp_path / "data", "crashes.onnx", "good.onnx"))
    assert only.engines == ()
    assert ["1.png" in item.reason for item in only.not_measured] == [True, True]  # `crashes` did not get that far


def test_an_image_that_is_lost_after_the_timing_ends_only_the_quality(
    workdir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data, tmp_path / "data")
    once(monkeypatch, "measure_stream", (tmp_path / "data/LRx4/1.png").unlink)
    report = bench(options(workdir, tmp_path / "data", "good.onnx", "also.onnx"))
    assert [engine.quality.images for engine in report.engines] == [1, 1]
    assert report.not_measured == ()
    assert report.crops == ()
    assert "quality is of 1 of 2 images" in report.warnings[0]
    assert "1.png" in report.warnings[0]
    assert report.engines[0].measurement
    assert report.engines[0].layers != unknown_layers("the run ended before")


def test_crops_that_cannot_be_written_cost_nothing_else(
    workdir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(options(workdir, data, "good.onnx"), out=tmp_path / "out")
    once(monkeypatch, "measure_stream", lambda: (tmp_path / "out/crops").write_text("in the way"))
    report = bench(settings)
    assert report.engines[0].quality.images == 2
    assert report.crops == ()
    assert "The run ended early: cannot write" in report.warnings[0]
    assert report.engines[0].layers != unknown_layers("the run ended before")
    assert read_report(tmp_path / "out/unfinished.json").engines[0].measurement == report.engines[0].measurement


@pytest.mark.parametrize("then", ["another", "none", "the same"])
def test_the_report_is_of_the_file_that_was_measured(
    then: str, workdir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "good.onnx"
    engine.write_bytes(b"an engine")

    def change() -> None:
        engine.unlink()
        if then != "none":
            engine.write_bytes(b"an engine" if then == "the same" else b"a better engine")

    once(monkeypatch, "measure_stream", change)
    report = bench(options(workdir, data, str(engine)))
    (measured,) = report.engines
    assert (measured.sha256, measured.size_bytes) == (hashlib.sha256(b"an engine").hexdigest(), 9)
    told = [warning for warning in report.warnings if "is another one now" in warning]
    assert len(told) == (0 if then == "the same" else 1)


def once(monkeypatch: pytest.MonkeyPatch, question: str, action: Callable[[], object]) -> None:
    """Do something before the first call of a method of ``MeasuredEngine``."""
    ask, actions = getattr(MeasuredEngine, question), [action]

    def asked(*arguments: object) -> object:
        for first in actions[:]:
            actions.clear()
            first()
        return ask(*arguments)

    monkeypatch.setattr(MeasuredEngine, question, asked)


def test_the_command_repeats_the_run(tmp_path: Path) -> None:
    command = options(tmp_path / "my work", Path("Set5"), "a.onnx").command
    assert command.startswith("drc-deploy bench a.onnx --workdir '")
    assert command.endswith("--data Set5 --size 24x32 --min-runs 16 --min-seconds 0.01")


def test_a_precision_is_for_checkpoints_and_only_they_get_it(workdir: Path, data: Path) -> None:
    opened: list[tuple[str, str | None]] = []

    def open_engine(path: Path, threads: int | None, precision: Precision | None) -> OpenFake:
        opened.append((path.suffix, precision))
        return OpenFake(path, threads, precision)

    both = replace(options(workdir, data, "good.onnx", "damaged.safetensors"), precision="fp16")
    bench(both, open_engine)
    assert sorted(opened) == [(".onnx", None), (".safetensors", "fp16")]
    with pytest.raises(UsageError, match="no engine here is one"):
        bench(replace(both, engines=("good.onnx",)), open_engine)
