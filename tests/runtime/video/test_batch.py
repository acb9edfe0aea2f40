import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drc_deploy.cli.main import main
from drc_deploy.images.output_size import OutputSize
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome, RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import write_nearest
from tests.runtime.video.video_clips import content, picture, write_clip

av = pytest.importorskip("av")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an image, two videos and a video that is none."""
    folder = tmp_path / "mixed"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(picture(1)).save(folder / "photo.png")
    write_clip(folder / "a.mp4")
    write_clip(folder / "sub" / "b.mkv", sound=False)
    (folder / "broken.mp4").write_text("no video")
    write_nearest(tmp_path / "n.onnx", scale=2)
    return folder


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["upscale", *arguments])
    return int(done.value.code or 0)


def test_a_folder_of_images_and_videos_is_upscaled_and_a_bad_one_does_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = str(folder.parent / "n.onnx")
    assert command(str(folder), "--engine", engine, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    results = folder.with_name("mixed_x2")
    assert {(Path(item["output"]).relative_to(results).as_posix(), item["frames"]) for item in report["files"]} == {
        ("photo.png", 1),
        ("a.mp4", 10),
        ("sub/b.mkv", 10),
    }
    assert [Path(item["input"]).name for item in report["failed"]] == ["broken.mp4"]
    assert content(results / "sub" / "b.mkv").pictures[0].shape == (96, 128, 3)

    (folder / "broken.mp4").unlink()
    assert command(str(folder), "--engine", engine, "--skip-existing", "--json") == 0
    again, shown = capsys.readouterr()
    assert [len(json.loads(again)[kind]) for kind in ("files", "skipped")] == [0, 3]
    assert "Upscaling" not in shown  # there was nothing to wait for
    assert command(str(folder), "--engine", engine, "--skip-existing", "--crf", "30", "--json") == 0
    other = json.loads(capsys.readouterr().out)
    assert sorted(Path(item["input"]).name for item in other["files"]) == ["a.mp4", "b.mkv"]
    assert other["redone"] == 2


def test_options_that_would_have_no_effect_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = str(folder.parent / "n.onnx")
    assert command(str(folder / "photo.png"), "--engine", engine, "--crf", "20") == 2
    assert "are for videos" in capsys.readouterr().err
    assert command(str(folder / "a.mp4"), "--engine", engine, "--quality", "80") == 2
    assert "are for images" in capsys.readouterr().err


def run(source: Path, target: Path, size: OutputSize) -> tuple[Outcome, FakeBackend]:
    backend = FakeBackend(fake_info(scale=2))
    job = UpscaleJob(source, target)
    return OneVideo(Upscaler(backend), job, RunOptions(size=size), {}, VideoOptions()).upscale(), backend


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (OutputSize(scale=1.5), (72, 96)),
        (OutputSize(scale=1.3), (62, 84)),  # 62.4 x 83.2, to even numbers
        (OutputSize(width=100), (76, 100)),
        (OutputSize(fit=(99, 80)), (74, 98)),
        (OutputSize(max_side=1000), (96, 128)),
    ],
)
def test_a_video_gets_the_size_that_is_asked_for_in_even_numbers(
    tmp_path: Path, size: OutputSize, expected: tuple[int, int]
) -> None:
    write_clip(tmp_path / "in.mp4")
    outcome, _ = run(tmp_path / "in.mp4", tmp_path / "out.mp4", size)
    result = content(tmp_path / "out.mp4")
    assert (outcome.finished[0].height, outcome.finished[0].width) == expected
    assert result.pictures[0].shape == (*expected, 3)
    reference = Image.fromarray(content(tmp_path / "in.mp4").pictures[4]).resize((expected[1], expected[0]))
    assert np.abs(np.asarray(reference).astype(int) - result.pictures[4]).mean() < 4


@pytest.mark.parametrize(
    ("size", "expected"), [(OutputSize(width=60), (80, 60)), (OutputSize(fit=(60, 1000)), (80, 60))]
)
def test_the_size_of_a_video_is_that_which_is_shown(
    tmp_path: Path, size: OutputSize, expected: tuple[int, int]
) -> None:
    write_clip(tmp_path / "in.mp4", rotation=90)
    run(tmp_path / "in.mp4", tmp_path / "out.mp4", size)
    result = content(tmp_path / "out.mp4")
    assert result.rotation == 90
    assert result.pictures[0].shape == (expected[1], expected[0], 3)


def test_a_video_that_is_large_enough_is_reduced_without_the_network_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_clip(tmp_path / "in.mp4")
    outcome, backend = run(tmp_path / "in.mp4", tmp_path / "out.mp4", OutputSize(max_side=32))
    assert backend.calls == []
    assert (outcome.finished[0].tiles, outcome.finished[0].width) == (0, 32)
    assert "without the network" in caplog.text


def test_unfinished_work_of_another_size_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    write_clip(tmp_path / "in.mp4")
    with monkeypatch.context() as patched:
        patched.setattr("drc_deploy.runtime.video.upscale.join", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "in.mp4", tmp_path / "out.mp4", OutputSize(scale=1.5))
    assert len(run(tmp_path / "in.mp4", tmp_path / "out.mp4", OutputSize(scale=1.25))[1].calls) == 10
    assert content(tmp_path / "out.mp4").pictures[0].shape == (60, 80, 3)
