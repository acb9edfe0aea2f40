import dataclasses
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from drc_deploy.bench.programs.supported import LIBRARIES
from drc_deploy.bench.report.conclusions import own_engines
from drc_deploy.bench.report.records import ProgramResult
from drc_deploy.bench.run.benchmark import run_bench
from drc_deploy.bench.run.engines import Engines, MeasuredEngine, ProgramRun
from drc_deploy.bench.run.inputs import BenchOptions, EngineFile
from drc_deploy.bench.run.other_programs import check_programs, enter_programs
from drc_deploy.bench.run.worker import Opened
from drc_deploy.bench.show.sentences import peer_lines
from drc_deploy.cli.commands.bench_command import PROGRAMS
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Photograph
from tests.bench import fakes
from tests.runtime.fake_backend import fake_info


class StubEngine:
    """Enlarges by repeating pixels, ``off`` grey levels too bright."""

    def __init__(self, file: EngineFile, program: ProgramRun | None = None, off: int = 0) -> None:
        self.file, self.program, self._off, self.process = file, program, off, self
        self.opened = Opened(dataclasses.replace(fake_info(), checkpoint_sha256="0"), "fake", 1.0)

    def upscale(self, image: UInt8Image) -> UInt8Image:
        return cast(UInt8Image, image.repeat(4, 0).repeat(4, 1) + np.uint8(self._off))

    def close(self) -> None:
        pass


class StubEngines(Engines):
    """Enters engines that are as wrong as their variant's name says."""

    def enter(self, file: EngineFile, open_engine: Any, program: ProgramRun | None = None) -> None:
        off = 3 if "throughput" in file.name else 0
        self.active.append(cast(MeasuredEngine, StubEngine(file, program, off)))


def entered(monkeypatch: pytest.MonkeyPatch, *names: str) -> StubEngines:
    monkeypatch.setattr(LIBRARIES["ncnn"], "missing", lambda: ["ncnn"])
    monkeypatch.setattr(LIBRARIES["openvino"], "missing", list)
    engines = StubEngines()
    for name in names:
        engines.active.append(cast(MeasuredEngine, StubEngine(EngineFile(name, Path(name)))))
    nowhere, against = Path("nowhere"), ("openvino", "ncnn", "openvino")
    enter_programs(BenchOptions((), nowhere, nowhere, None, None, 32, 32, 8, 0.0, None, against=against), engines)
    return engines


def test_a_program_that_computes_something_else_is_out_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = entered(monkeypatch, "a.onnx")
    assert [one.file.name for one in engines.active][1:] == [
        "a.onnx (openvino latency)",
        "a.onnx (openvino throughput)",
    ]
    check_programs(engines, np.full((100, 100, 3), 100, np.uint8))
    assert [one.file.name for one in engines.active] == ["a.onnx", "a.onnx (openvino latency)"]
    reasons = {item.name: item.reason for item in engines.not_measured}
    assert reasons["ncnn"] == "ncnn is not installed."
    assert "PSNR 38.6 dB" in reasons["a.onnx (openvino throughput)"]  # 20 log10(255 / 3)


def test_the_same_network_is_measured_once_in_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = entered(monkeypatch, "a.onnx", "./a.onnx", "b.safetensors")
    assert sum("openvino" in one.file.name for one in engines.active) == 2
    assert "it needs an ONNX" in {item.name: item.reason for item in engines.not_measured}["b.safetensors (openvino)"]


def test_a_program_without_our_engine_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = entered(monkeypatch, "a.onnx")
    del engines.active[0]
    check_programs(engines, np.full((100, 100, 3), 100, np.uint8))
    assert engines.active == []
    assert "nothing to compare" in engines.not_measured[-1].reason


def test_a_line_shows_pace_likeness_and_settings() -> None:
    ours, theirs = fakes.paced("a", [10.0] * 8), fakes.paced("a (torch)", [15.0] * 8)
    stability = fakes.measurement(theirs.latency).stability
    program = ProgramResult("torch", "eager", "a", {"threads": "2"}, "a share of many", 60.4, 1, stability)
    theirs = dataclasses.replace(theirs, program=program)
    assert peer_lines([ours, theirs]) == [
        "a (torch): 1.50 (1.50 to 1.50) of the time of a; PSNR between the outputs 60 dB, largest difference 1; "
        "threads 2; a run is a share of many."
    ]
    assert own_engines([ours, theirs]) == [ours]


def test_the_command_knows_the_libraries() -> None:
    assert set(PROGRAMS) == set(LIBRARIES)


@pytest.mark.slow
def test_torch_is_measured_against_a_checkpoint(tmp_path: Path) -> None:
    pair = Photograph(sample_images()[0]).load(4)
    for name, image in (("HR", pair.hr[:96, :96]), ("LRx4", pair.lr[:24, :24])):
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "0.png"), image[:, :, ::-1])
    engine = str(SHIPPED / "drn_xs.safetensors")
    options = BenchOptions((engine,), tmp_path, tmp_path / "out", tmp_path, None, 16, 16, 8, 0.0, 1, None, ("torch",))
    report = run_bench(options)
    assert report.not_measured == ()
    programs = {result.program.variant: result for result in report.engines if result.program}
    assert set(programs) >= {"eager", "channels-last"}
    for result in programs.values():
        assert result.program
        assert result.program.of == "drn_xs.safetensors"
        assert result.program.largest_difference <= 1
        assert result.program.settings["threads"] == "1"
        assert result.quality.psnr_y == pytest.approx(report.engines[0].quality.psnr_y, abs=0.02)
    assert "--against torch" in report.settings.command
