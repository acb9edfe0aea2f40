"""Animations that become videos."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drc_deploy.errors import ArtefactError
from drc_deploy.images.formats import Saving
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import EncoderOptions, VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from tests.core.images.animation.files import PngPart, write_apng
from tests.runtime.fake_backend import FakeBackend, fake_info

av = pytest.importorskip("av")

DELAYS = ((4, 100), (1, 3), (0, 100), (1, 100), (2, 1))
BEGINS = (0.0, 0.04, 0.373, 0.473, 0.573)
"""Seconds: what is too short is shown for a tenth."""
END = 2.573


def clip(path: Path, *, alpha: bool = False, count: int = 5) -> Path:
    """Write frames of one colour each; their left half may be transparent."""
    parts = []
    for number in range(count):
        pixels = np.full((16, 16, 4), (40 * (number % 5) + 40, 128, 200, 255), np.uint8)
        if alpha:
            pixels[:, :8, 3] = 0
        parts.append(PngPart(pixels, delay=DELAYS[number % 5]))
    return write_apng(path, 16, 16, parts)


def run(source: Path, target: Path, backend: FakeBackend | None = None, **options: Any) -> None:
    upscaler = Upscaler(backend or FakeBackend(fake_info(scale=2)))
    video = options.pop("video", VideoOptions())
    OneVideo(upscaler, UpscaleJob(source, target, True), RunOptions(**options), {}, video).upscale()


def pictures(path: Path, kind: str = "rgb24") -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format=kind)) for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_every_frame_is_shown_when_a_browser_shows_it(tmp_path: Path, suffix: str) -> None:
    source, target = clip(tmp_path / "in.png"), tmp_path / f"out{suffix}"
    run(source, target)
    shown = pictures(target)
    assert [time for time, _ in shown] == pytest.approx(BEGINS, abs=1e-3)
    for number, (_, picture) in enumerate(shown):
        assert picture.shape == (32, 32, 3)
        assert np.abs(picture.astype(int) - (40 * number + 40, 128, 200)).max() <= 4
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert len(container.streams) == 1
        assert container.duration / 1e6 == pytest.approx(END, abs=0.01)
        assert (stream.codec_context.color_trc, stream.codec_context.colorspace) == (13, 1)


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_transparency_is_kept_where_the_format_can(tmp_path: Path, suffix: str) -> None:
    run(clip(tmp_path / "in.png", alpha=True), tmp_path / f"out{suffix}")
    _, picture = pictures(tmp_path / f"out{suffix}", "rgba")[0]
    assert picture[:, :14, 3].max() <= 1
    assert picture[:, 18:, 3].min() >= 254


@pytest.mark.parametrize(("background", "shown"), [(None, (255, 255, 255)), ((0, 0, 0), (0, 0, 0))])
def test_what_is_transparent_shows_a_colour_in_a_video_without_alpha(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    background: tuple[int, int, int] | None,
    shown: tuple[int, int, int],
) -> None:
    run(clip(tmp_path / "in.png", alpha=True), tmp_path / "out.mp4", saving=Saving(background=background))
    _, picture = pictures(tmp_path / "out.mp4")[0]
    assert np.abs(picture[4:-4, 4:12].astype(int) - shown).max() <= 6
    assert ("It is laid on white" in caplog.text) == (background is None)


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.png", count=60)

    class Failing(FakeBackend):
        def run(self, batch: Pixels) -> Pixels:
            if len(self.calls) == 55:
                raise ArtefactError("stopped", "")
            return super().run(batch)

    lossless = VideoOptions(encoder=EncoderOptions(codec="ffv1"))
    with pytest.raises(ArtefactError):
        run(source, tmp_path / "out.mkv", Failing(fake_info(scale=2)), video=lossless)
    going_on = FakeBackend(fake_info(scale=2))
    run(source, tmp_path / "out.mkv", going_on, video=lossless)
    assert len(going_on.calls) == 12
    run(source, tmp_path / "whole.mkv", video=lossless)
    stopped, whole = pictures(tmp_path / "out.mkv"), pictures(tmp_path / "whole.mkv")
    assert [time for time, _ in stopped] == [time for time, _ in whole]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(stopped, whole, strict=True))
