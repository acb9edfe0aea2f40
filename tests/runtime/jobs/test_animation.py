"""Animations through the whole pipeline, with a network that repeats pixels."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.cli.main import main
from drc_deploy.errors import DrcDeployError, ImageError, OutputError, UsageError
from drc_deploy.images.animation.reading import frames_of, read_animation
from drc_deploy.images.formats import Saving
from drc_deploy.images.output_size import OutputSize
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.animation import upscale_animation
from drc_deploy.runtime.jobs.plan import UpscaleJob, plan_jobs
from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.jobs.run import Outcome, RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from tests.core.images.animation.files import (
    GifPart,
    PngPart,
    decoded_by_ffmpeg,
    seen,
    write_apng,
    write_gif,
)
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import write_nearest

TICKS = (4, 10, 0, 25)


def clip(path: Path, transparent: int | None = None) -> Path:
    """Write four frames of 9x7 pixels: parts of them change."""
    rng = np.random.default_rng(2)
    parts = [GifPart(rng.integers(0, 4, (7, 9)).astype(np.uint8), 0, 0, 2 if transparent else 1, transparent, TICKS[0])]
    for number, ticks in enumerate(TICKS[1:], 1):
        numbers = rng.integers(0, 4, (3, 4)).astype(np.uint8)
        parts.append(GifPart(numbers, number, number, 2 if transparent else 1, transparent, ticks))
    return write_gif(path, 9, 7, parts, loops=4)


def run(source: Path, target: Path, **options: Any) -> Outcome:
    upscaler = Upscaler(FakeBackend(fake_info(scale=2)))
    return upscale_animation(upscaler, UpscaleJob(source, target, True), RunOptions(**options))


def enlarged(source: Path) -> list[NDArray[np.int64]]:
    return [seen(frame.repeat(2, axis=0).repeat(2, axis=1)) for frame in decoded_by_ffmpeg(source)]


@pytest.mark.parametrize("transparent", [None, 2])
@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_every_frame_is_upscaled_and_shown_as_long(tmp_path: Path, suffix: str, transparent: int | None) -> None:
    pytest.importorskip("av")
    source, target = clip(tmp_path / "in.gif", transparent), tmp_path / f"out{suffix}"
    (finished,) = run(source, target).finished
    assert (finished.width, finished.height, finished.frames) == (18, 14, 4)
    for result, expected in zip(decoded_by_ffmpeg(target), enlarged(source), strict=True):
        assert np.array_equal(seen(result), expected)
    with Image.open(target) as image:
        durations = []
        for index in range(4):
            image.seek(index)
            durations.append(image.info["duration"])
        assert durations == [10 * ticks for ticks in TICKS]
    assert read_animation(target).plays == 5


def test_a_webp_has_all_frames_and_the_quality_that_was_asked_for(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.gif")
    sizes = []
    for quality in (20, 100):
        assert not run(source, tmp_path / "out.webp", saving=Saving(quality), overwrite=True).failed
        animation = read_animation(tmp_path / "out.webp")
        assert [int(1000 * duration) for duration in animation.durations] == [10 * ticks for ticks in TICKS]
        sizes.append((tmp_path / "out.webp").stat().st_size)
    assert sizes[0] < sizes[1]


def test_a_background_takes_the_place_of_transparency(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.gif", 2)
    run(source, tmp_path / "out.png", saving=Saving(background=(10, 20, 30)))
    animation = read_animation(tmp_path / "out.png")
    assert not animation.alpha
    shown = next(frames_of(tmp_path / "out.png", animation)).pixels
    clear = decoded_by_ffmpeg(source)[0][:, :, 3] == 0
    assert clear.any()
    assert (shown[::2, ::2][clear] == (10, 20, 30)).all()


def test_frames_get_the_size_that_was_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = [np.full((8, 8, 3), level, np.uint8) for level in (40, 200)]
    source = write_apng(tmp_path / "in.png", 8, 8, [PngPart(each) for each in pixels])
    run(source, tmp_path / "out.png", size=OutputSize(width=12))
    animation = read_animation(tmp_path / "out.png")
    assert (animation.width, animation.height) == (12, 12)
    assert [int(frame.pixels[5, 5, 0]) for frame in frames_of(tmp_path / "out.png", animation)] == [40, 200]
    run(source, tmp_path / "small.png", size=OutputSize(width=4))
    assert "in.png has 8x8 pixels: it is resized without the network" in caplog.text


def test_a_frame_that_is_equal_to_the_one_before_is_computed_once(tmp_path: Path) -> None:
    pixels = [np.full((4, 4, 3), level, np.uint8) for level in (1, 2, 2, 1)]
    source = write_apng(tmp_path / "in.png", 4, 4, [PngPart(each) for each in pixels])
    backend = FakeBackend(fake_info(scale=2))
    upscale_animation(Upscaler(backend), UpscaleJob(source, tmp_path / "out.png", True), RunOptions())
    assert len(backend.calls) == 3
    shown = [
        int(frame.pixels[0, 0, 0]) for frame in frames_of(tmp_path / "out.png", read_animation(tmp_path / "out.png"))
    ]
    assert shown == [1, 2, 2, 1]


def test_results_that_exist_stay_are_skipped_or_are_made_again(tmp_path: Path) -> None:
    source, target = clip(tmp_path / "in.gif"), tmp_path / "out.gif"
    run(source, target, records=Records({"engine": 1}))
    with pytest.raises(OutputError, match="exists already"):
        run(source, target)
    assert len(run(source, target, skip_existing=True, records=Records({"engine": 1})).skipped) == 1
    assert run(source, target, skip_existing=True, records=Records({"engine": 2})).redone == 1
    with pytest.raises(OutputError, match="is the input itself"):
        run(source, source, overwrite=True)


def test_a_damaged_animation_leaves_nothing_or_what_is_before_the_damage(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.gif")
    source.write_bytes(source.read_bytes()[:-6])
    with pytest.raises(ImageError, match=r"frame 4 of .*in\.gif is damaged"):
        run(source, tmp_path / "out.gif")
    assert not (tmp_path / "out.gif").exists()
    (finished,) = run(source, tmp_path / "out.gif", tolerant=True).finished
    assert finished.frames == 3


def test_a_source_that_changes_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.gif")

    class Changing(FakeBackend):
        def run(self, batch: Pixels) -> Pixels:
            with source.open("ab") as stream:
                stream.write(b"\0")
            return super().run(batch)

    with pytest.raises(ImageError, match="changed while it was upscaled"):
        upscale_animation(
            Upscaler(Changing(fake_info(scale=2))), UpscaleJob(source, tmp_path / "out.gif", True), RunOptions()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.gif"]


@pytest.mark.parametrize(
    ("name", "output", "suffix", "target", "animated"),
    [
        ("in.gif", None, None, "in_x2.gif", True),
        ("in.webp", None, None, "in_x2.webp", True),
        ("in.png", None, None, "in_x2.png", True),
        ("still.gif", None, None, "still_x2.png", False),
        ("still.webp", None, None, "still_x2.png", False),
        ("in.gif", None, ".webp", "in_x2.webp", True),
        ("in.gif", None, ".jpg", "in_x2.jpg", False),
        ("in.gif", "o.webp", None, "o.webp", True),
        ("in.gif", "o.mp4", None, "o.mp4", True),
        ("in.webp", "o.tif", None, "o.tif", False),
        ("in.png", "o.gif", None, "o.gif", True),
        ("still.gif", "o.gif", None, "o.gif", False),
    ],
)
def test_where_an_animation_goes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    output: str | None,
    suffix: str | None,
    target: str,
    animated: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    frames[0].save(name, save_all=not name.startswith("still"), append_images=frames[1:])
    assert plan_jobs([name], output, "x2", suffix) == [UpscaleJob(Path(name), Path(target), animated)]


@pytest.mark.parametrize(("name", "output"), [("still.gif", "o.mp4"), ("nothing.gif", "o.mp4")])
def test_only_animations_become_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 3)).save("still.gif")
    with pytest.raises(UsageError, match="none that is written here"):
        plan_jobs([name], output, "x2")


def test_a_format_and_the_name_of_another_one_are_refused(tmp_path: Path) -> None:
    source = str(clip(tmp_path / "in.gif"))
    with pytest.raises(DrcDeployError, match="is a GIF, and --format asks for WebP"):
        plan_jobs([source], "o.gif", "x2", ".webp")


def test_a_folder_mixes_stills_animations_and_reports_their_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    clip(folder / "a.gif")
    Image.new("RGB", (4, 4)).save(folder / "b.png")
    (folder / "c.gif").write_bytes(clip(folder / "c.gif").read_bytes()[:-6])
    write_nearest(tmp_path / "n.onnx", scale=2)
    with pytest.raises(SystemExit):
        main(["upscale", str(folder), "--engine", str(tmp_path / "n.onnx"), "--json"])
    streams = capsys.readouterr()
    report = json.loads(streams.out)
    found = {(Path(item["output"]).name, item["frames"], item["width"]) for item in report["files"]}
    assert found == {("a.gif", 4, 18), ("b.png", 1, 8)}
    assert [Path(item["input"]).name for item in report["failed"]] == ["c.gif"]
    assert "Upscaling: 3/3" in streams.err


def test_options_of_videos_are_for_animations_that_become_one(tmp_path: Path) -> None:
    source, engine = str(clip(tmp_path / "in.gif")), str(tmp_path / "n.onnx")
    write_nearest(tmp_path / "n.onnx", scale=2)
    for options, code in (
        (("-o", "o.mp4", "--quality", "80"), 2),
        (("-o", "o.gif", "--crf", "20"), 2),
        (("-o", "o.gif", "--quality", "80"), 2),
        (("-o", str(tmp_path / "o.mp4"), "--crf", "20", "--background", "red"), 0),
    ):
        with pytest.raises(SystemExit) as done:
            main(["upscale", source, "--engine", engine, *options])
        assert int(done.value.code or 0) == code


def test_times_are_kept_by_a_gif_as_near_as_it_can(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (6, 4, 4, 3)).astype(np.uint8) * 255
    source = write_apng(tmp_path / "in.png", 4, 4, [PngPart(each, delay=(1, 30)) for each in pixels])
    run(source, tmp_path / "out.gif")
    durations = read_animation(tmp_path / "out.gif").durations
    assert sum(durations) == Fraction(6, 30)
    assert set(durations) == {Fraction(3, 100), Fraction(4, 100)}
