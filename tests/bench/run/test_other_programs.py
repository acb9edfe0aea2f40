import dataclasses
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from drc_deploy.bench.programs.supported import LIBRARIES
from drc_deploy.bench.report.conclusions import own_engines
from drc_deploy.bench.report.records import PeerResult
from drc_deploy.bench.run import benchmark as campaign
from drc_deploy.bench.run import other_programs as rivals
from drc_deploy.bench.run.benchmark import BenchOptions
from drc_deploy.bench.run.engines import Contest, Contestant
from drc_deploy.bench.run.inputs import Subject
from drc_deploy.bench.run.other_programs import RivalOptions, Rivals
from drc_deploy.bench.run.worker import Opened
from drc_deploy.bench.show.sentences import peer_lines
from drc_deploy.cli.bench_command import PEERS
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.metrics import UInt8Image
from drc_deploy.pairs import Photograph
from tests.bench import fakes
from tests.runtime.fake_backend import fake_info


class StubContestant:
    """Enlarges by repeating pixels, ``off`` grey levels too bright."""

    def __init__(self, subject: Subject, off: int = 0) -> None:
        self.subject, self._off, self.process = subject, off, self
        self.opened = Opened(dataclasses.replace(fake_info(), checkpoint_sha256="0"), "fake", 1.0, peer=False)

    def upscale(self, image: UInt8Image) -> UInt8Image:
        return cast(UInt8Image, image.repeat(4, 0).repeat(4, 1) + np.uint8(self._off))

    def close(self) -> None:
        pass


class StubContest(Contest):
    """Enters contestants that are as wrong as their variant's name says."""

    def enter(self, subject: Subject, open_engine: Any) -> None:
        off = 3 if "throughput" in subject.name else 0
        self.active.append(cast(Contestant, StubContestant(subject, off)))


def entered(monkeypatch: pytest.MonkeyPatch, *names: str) -> tuple[Rivals, StubContest]:
    monkeypatch.setattr(rivals, "missing_parts", lambda library: ["ncnn"] if library == "ncnn" else [])
    contest = StubContest()
    for name in names:
        contest.active.append(cast(Contestant, StubContestant(Subject(name, Path(name)))))
    field = Rivals(RivalOptions(("openvino", "ncnn", "openvino"), Path("nowhere"), None, (32, 32)))
    field.enter(contest)
    return field, contest


def test_a_peer_that_computes_something_else_is_out_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    field, contest = entered(monkeypatch, "a.onnx")
    assert [one.subject.name for one in contest.active][1:] == [
        "a.onnx (openvino latency)",
        "a.onnx (openvino throughput)",
    ]
    field.check(contest, np.full((100, 100, 3), 100, np.uint8))
    assert [one.subject.name for one in contest.active] == ["a.onnx", "a.onnx (openvino latency)"]
    reasons = {item.name: item.reason for item in contest.not_measured}
    assert reasons["ncnn"] == "ncnn is not installed."
    assert "PSNR 38.6 dB" in reasons["a.onnx (openvino throughput)"]  # 20 log10(255 / 3)


def test_the_same_network_is_measured_once_in_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, contest = entered(monkeypatch, "a.onnx", "./a.onnx", "b.safetensors")
    assert sum("openvino" in one.subject.name for one in contest.active) == 2
    assert "it needs an ONNX" in {item.name: item.reason for item in contest.not_measured}["b.safetensors (openvino)"]


def test_a_peer_without_our_engine_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    field, contest = entered(monkeypatch, "a.onnx")
    del contest.active[0]
    field.check(contest, np.full((100, 100, 3), 100, np.uint8))
    assert contest.active == []
    assert "nothing to compare" in contest.not_measured[-1].reason


def test_a_line_tells_pace_likeness_and_settings() -> None:
    ours, theirs = fakes.paced("a", [10.0] * 8), fakes.paced("a (torch)", [15.0] * 8)
    stability = fakes.measurement(theirs.latency).stability
    peer = PeerResult("torch", "eager", "a", {"threads": "2"}, "a share of many", 60.4, 1, stability)
    theirs = dataclasses.replace(theirs, peer=peer)
    assert peer_lines([ours, theirs]) == [
        "a (torch): 1.50 (1.50 to 1.50) of the time of a; PSNR between the outputs 60 dB, largest difference 1; "
        "threads 2; a run is a share of many."
    ]
    assert own_engines([ours, theirs]) == [ours]


def test_the_command_knows_the_libraries() -> None:
    assert set(PEERS) == set(LIBRARIES)


@pytest.mark.slow
def test_torch_is_measured_against_a_checkpoint(tmp_path: Path) -> None:
    pair = Photograph(sample_images()[0]).load(4)
    for name, image in (("HR", pair.hr[:96, :96]), ("LRx4", pair.lr[:24, :24])):
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "0.png"), image[:, :, ::-1])
    engine = str(SHIPPED / "drn_xs.safetensors")
    options = BenchOptions((engine,), tmp_path, tmp_path / "out", tmp_path, None, 16, 16, 8, 0.0, 1, None, ("torch",))
    report = campaign.run_bench(options)
    assert report.not_measured == ()
    peers = {result.peer.variant: result for result in report.engines if result.peer}
    assert set(peers) >= {"eager", "channels-last"}
    for result in peers.values():
        assert result.peer
        assert result.peer.of == "drn_xs.safetensors"
        assert result.peer.largest_difference <= 1
        assert result.peer.settings["threads"] == "1"
        assert result.quality.psnr_y == pytest.approx(report.engines[0].quality.psnr_y, abs=0.02)
    assert "--against torch" in report.settings.command
