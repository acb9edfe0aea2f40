from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import ImageError, OutputError
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.options import Sound, VideoOptions
from drc_deploy.runtime.video.upscale import OneVideo
from tests.runtime.fake_backend import FakeBackend, fake_info

pytest.importorskip("av")

RATE_HZ = 44_100
CLICKS_S = (0.2, 0.45, 0.7)


def write(path: Path, codec: str, layout: str = "stereo") -> None:
    """Write a second of video with clicks in silence."""
    import av

    samples = np.zeros((RATE_HZ, av.AudioLayout(layout).nb_channels), np.int16)
    for click in CLICKS_S:
        samples[round(click * RATE_HZ) :][:32] = 20_000
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("wmv2" if path.suffix == ".wmv" else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio: Any = container.add_stream(codec, rate=RATE_HZ, layout=layout, bit_rate=128_000)
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame.reformat(format="yuv420p")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", layout)
        sound.rate, sound.pts, sound.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def clicks_s(path: Path) -> list[float]:
    """Return when the sound gets loud."""
    import av

    with av.open(str(path)) as container:
        loud: list[float] = []
        end = 0.0
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(float)) / (32768 if "s16" in frame.format.name else 1)
            channels = samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T
            begin = end if frame.pts is None else float(frame.pts * frame.time_base)
            end = begin + frame.samples / frame.rate
            loud += [begin + index / frame.rate for index in np.flatnonzero(channels.max(axis=0) > 0.2)]
    return [time for index, time in enumerate(loud) if index == 0 or time - loud[index - 1] > 0.1]


def first_picture_s(path: Path) -> float:
    import av

    with av.open(str(path)) as container:
        return float(next(container.decode(video=0)).time)


def run(source: Path, target: Path, sound: Sound, *, tolerant: bool = False) -> None:
    upscaler = Upscaler(FakeBackend(fake_info()))
    options = RunOptions(tolerant=tolerant)
    OneVideo(upscaler, UpscaleJob(source, target), options, {}, VideoOptions(sound=sound)).upscale()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(("codec", "layout"), [("pcm_s16le", "stereo"), ("pcm_s16le", "mono"), ("flac", "stereo")])
def test_sound_that_is_encoded_anew_stays_with_the_pictures(
    tmp_path: Path, suffix: str, codec: str, layout: str
) -> None:
    write(tmp_path / "in.mkv", codec, layout)
    run(tmp_path / "in.mkv", tmp_path / f"out{suffix}", "aac")
    assert clicks_s(tmp_path / "in.mkv") == pytest.approx(CLICKS_S, abs=0.001)
    assert clicks_s(tmp_path / f"out{suffix}") == pytest.approx(CLICKS_S, abs=0.003)


def test_sound_for_webm_is_opus(tmp_path: Path) -> None:
    import av

    write(tmp_path / "in.mkv", "flac")
    run(tmp_path / "in.mkv", tmp_path / "out.webm", "opus")
    assert clicks_s(tmp_path / "out.webm") == pytest.approx(CLICKS_S, abs=0.003)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "opus"


def test_sound_is_left_out_on_request(tmp_path: Path) -> None:
    import av

    write(tmp_path / "in.mkv", "flac")
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", "none")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert not container.streams.audio


def test_sound_that_no_format_holds_is_refused_before_computing_with_a_hint_that_helps(tmp_path: Path) -> None:
    write(tmp_path / "in.wmv", "wmav2")
    with pytest.raises(OutputError, match="wmav2") as caught:
        run(tmp_path / "in.wmv", tmp_path / "out.mkv", "copy")
    assert "--audio aac" in caught.value.hint
    run(tmp_path / "in.wmv", tmp_path / "out.mkv", "aac")
    before, after = (
        [click - first_picture_s(tmp_path / name) for click in clicks_s(tmp_path / name)]
        for name in ("in.wmv", "out.mkv")
    )
    assert after == pytest.approx(before, abs=0.003)


@pytest.mark.parametrize("layout", ["5.1(side)", "5.1", "2.1", "quad"])
def test_every_usual_layout_can_be_opus(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "in.mkv", "pcm_s16le", layout)
    run(tmp_path / "in.mkv", tmp_path / "out.webm", "opus")
    assert clicks_s(tmp_path / "out.webm") == pytest.approx(CLICKS_S, abs=0.003)


def test_damaged_sound_that_is_encoded_anew_is_named_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in.mkv", "flac")
    content = bytearray((tmp_path / "in.mkv").read_bytes())
    frame = content.rindex(b"\xff\xf8", 0, len(content) * 3 // 4)  # begins a frame of FLAC
    content[frame + 4 : frame + 12] = bytes(8)
    (tmp_path / "in.mkv").write_bytes(content)
    with pytest.raises(ImageError, match=r"the sound of .*in\.mkv is damaged"):
        run(tmp_path / "in.mkv", tmp_path / "out.mkv", "aac")
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", "aac", tolerant=True)
    assert "is damaged and left out" in caplog.text


@pytest.mark.parametrize("sound", ["copy", "aac"])
def test_sound_of_an_unknown_kind_is_a_sentence(tmp_path: Path, sound: Sound) -> None:
    write(tmp_path / "in.mkv", "flac")
    content = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(content.replace(b"A_FLAC", b"A_FLAP"))
    with pytest.raises(OutputError, match="unknown kind") as caught:
        run(tmp_path / "in.mkv", tmp_path / "out.mkv", sound)
    assert "--audio none" in caught.value.hint
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", "none")
