"""Every frame, time stamp, colour and packet of sound of what encoders write, against a decoder that is not ours."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.video.encoder_outputs import COUNT, VARIABLE, Made, Shown, blocks, shown, write

pytest.importorskip("av")

X264 = {"crf": "4", "preset": "ultrafast", "bf": "0"}
B_FRAMES = {"crf": "4", "preset": "fast", "x264-params": "bframes=3:b-adapt=0:keyint=8:scenecut=0"}
OPEN_GOP = {"crf": "4", "preset": "fast", "x264-params": "bframes=3:b-adapt=0:keyint=4:open-gop=1:scenecut=0"}
X265 = {"crf": "4", "preset": "ultrafast", "x265-params": "log-level=error:bframes=3"}
SVT = {"crf": "10", "preset": "6"}
VPX = {"crf": "4", "b": "0", "cpu-used": "8"}
BEST = {"qmin": "1", "qmax": "1"}
SD, HD = (2, 0, 2, 2), (1, 1, 1, 1)

VIDEOS = {
    "h264_mp4": Made(".mp4", "libx264", options=X264),
    "h264_mp4_b_frames": Made(".mp4", "libx264", options=B_FRAMES),
    "h264_mov_variable": Made(".mov", "libx264", options=B_FRAMES, times=VARIABLE),
    "h264_mkv_open_gop": Made(".mkv", "libx264", options=OPEN_GOP, rate=Fraction(24000, 1001)),
    "h264_mp4_cut": Made(".mp4", "libx264", options=B_FRAMES, cut=5),
    "h264_mp4_late_sound": Made(".mp4", "libx264", options=B_FRAMES, sound_delay_s=0.25),
    "h264_avi": Made(".avi", "libx264", options=X264, sound="libmp3lame", sound_samples=1152),
    "h264_ts": Made(".ts", "libx264", options=B_FRAMES),
    "h264_flv": Made(".flv", "libx264", options=B_FRAMES),
    "h264_untagged": Made(".mp4", "libx264", options=B_FRAMES, tags=SD),
    "h264_full_range": Made(".mp4", "libx264", options=X264, tags=(6, 2, 6, 6)),
    "h264_rgb": Made(".mkv", "libx264rgb", "rgb24", X264, tags=SD),
    "hevc_mp4": Made(".mp4", "libx265", options=X265),
    "hevc_mkv_10_bits": Made(".mkv", "libx265", "yuv420p10le", X265),
    "mpeg4_avi_b_frames": Made(".avi", "mpeg4", options={**BEST, "bf": "2"}, sound="mp2", sound_samples=1152, tags=SD),
    "mpeg2_mpg": Made(".mpg", "mpeg2video", options={**BEST, "bf": "2"}, sound="mp2", sound_samples=1152, tags=SD),
    "mpeg2_ts": Made(".ts", "mpeg2video", options=BEST, sound="mp2", sound_samples=1152, rate=Fraction(30000, 1001)),
    "vp9_webm": Made(".webm", "libvpx-vp9", options=VPX, sound="libopus", sound_samples=960),
    "vp9_webm_alpha": Made(
        ".webm", "libvpx-vp9", "yuva420p", {**VPX, "auto-alt-ref": "0"}, "libopus", 960, decoder="libvpx-vp9"
    ),
    "av1_mp4": Made(".mp4", "libsvtav1", options=SVT),
    "av1_webm_10_bits": Made(".webm", "libsvtav1", "yuv420p10le", SVT, "libopus", 960),
    "prores_mov": Made(".mov", "prores_ks", "yuv422p10le", {"profile": "hq"}, "pcm_s16le"),
    "prores_mov_alpha": Made(".mov", "prores_ks", "yuva444p10le", {"profile": "4444"}, "pcm_s16le"),
    "ffv1_mkv": Made(".mkv", "ffv1", "yuv444p", sound="flac"),
    "ffv1_mkv_alpha": Made(".mkv", "ffv1", "bgra", sound=None, tags=SD),
    "mjpeg_avi": Made(".avi", "mjpeg", "yuvj420p", BEST, "pcm_s16le", tags=(6, 2, 2, 2)),
    "mjpeg_mov_variable": Made(".mov", "mjpeg", "yuvj420p", BEST, times=VARIABLE, tags=(6, 2, 2, 2)),
    "wmv_asf": Made(".wmv", "wmv2", options=BEST, sound="wmav2", sound_samples=2048, tags=SD),
}
WRITTEN = {".avi": ".mkv", ".ts": ".mkv", ".flv": ".mkv", ".mpg": ".mkv", ".wmv": ".mkv"}
SCALE = 2
ADTS = b"\xff\xf1"
"""Begins the seven bytes before each packet of AAC in a transport stream."""


@pytest.fixture(params=VIDEOS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def before_and_after(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Shown, Shown]:
    """Return what is shown of a source and of its result, made in segments of five frames."""
    for module in ("upscale", "joining"):
        monkeypatch.setattr(f"drc_deploy.runtime.video.{module}.SEGMENT_FRAMES", 5)
    made = VIDEOS[name]
    source = tmp_path / f"in{made.suffix}"
    target = tmp_path / f"out{WRITTEN.get(made.suffix, made.suffix)}"
    write(source, made)
    upscaler = Upscaler(FakeBackend(fake_info(scale=SCALE, io_dtype="float32")))
    options = VideoOptions(sound="aac" if made.sound == "wmav2" else "copy")
    OneVideo(upscaler, UpscaleJob(source, target), RunOptions(), {}, options).upscale()
    untagged = 6 if made.tags[0] in (0, 2) else None
    return shown(source, made.decoder, matrix=untagged), shown(target, made.decoder)


def test_what_an_encoder_wrote_is_kept(name: str, before_and_after: tuple[Shown, Shown]) -> None:
    made, (before, after) = VIDEOS[name], before_and_after
    assert len(after.pictures) == COUNT - made.cut

    expected = [float((time - made.times[made.cut]) / made.rate) for time in made.times[made.cut :]]
    tick_s = 0.0011 if made.suffix in (*WRITTEN, ".mkv", ".webm") else 1e-6
    first = 1 if name == "h264_avi" else 0  # FFmpeg gives its first picture the time of one before
    times = np.array(after.times_s)
    np.testing.assert_allclose(times[first:] - times[first], expected[: len(times) - first], rtol=0, atol=tick_s)

    matrix, colour_range, primaries, transfer = after.tags
    assert colour_range in (1, 2)  # nothing is left to a player's guess
    assert 2 not in (matrix, primaries, transfer)
    for source, result in zip(before.pictures, after.pictures, strict=True):
        np.testing.assert_allclose(blocks(result, SCALE), blocks(source, 1), rtol=0, atol=2)

    if made.sound and made.sound != "wmav2":  # encoded anew
        assert after.sound == [sound[7:] if sound.startswith(ADTS) else sound for sound in before.sound]
        lag = before.sound_begins_s - before.times_s[0]
        assert first or after.sound_begins_s - after.times_s[0] == pytest.approx(lag, abs=0.0011)
