"""What a result keeps of a video that a table of encoders does not show."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import ImageError, OutputError
from drc_deploy.runtime.video.colours import Colours, colours_of
from drc_deploy.runtime.video.options import Codec, EncoderOptions
from drc_deploy.runtime.video.reading import video_info
from tests.runtime.video.kept_clips import Kind, bar, frames, run, write
from tests.runtime.video.video_clips import write_clip

av = pytest.importorskip("av")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_last_picture_lasts_as_long_as_it_did(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source, [0, 1, 2, 3], last=100)
    run(source, target)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert after.duration == pytest.approx(before.duration, abs=2000)
        assert after.duration > 4_000_000


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(60)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_a_result_has_the_rate_of_its_source(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    write(tmp_path / "in.mkv", list(range(20)), Kind(rate=rate))
    run(tmp_path / "in.mkv", tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(float(rate), rel=0.01)


@pytest.mark.parametrize(("source", "target"), [(".mov", ".mov"), (".mov", ".mp4"), (".mp4", ".mov"), (".mov", ".mkv")])
def test_a_time_code_is_kept(tmp_path: Path, source: str, target: str) -> None:
    write(tmp_path / f"in{source}", list(range(6)), metadata={"timecode": "01:02:03:04"})
    with av.open(str(tmp_path / f"in{source}")) as container:
        assert container.streams.data  # or it would show nothing
    run(tmp_path / f"in{source}", tmp_path / f"out{target}")
    with av.open(str(tmp_path / f"out{target}")) as container:
        said = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
        assert said["timecode"] == "01:02:03:04"
    assert len(frames(tmp_path / f"out{target}")) == 6


PQ = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}


MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


def ramp(number: int) -> Any:
    return np.broadcast_to((np.arange(64) * 1023 + number).astype(np.uint16)[None, :, None], (32, 64, 3)).copy()


@pytest.mark.parametrize("codec", [None, "av1"])
def test_a_high_dynamic_range_keeps_ten_bits_and_its_metadata(tmp_path: Path, codec: Codec | None) -> None:
    options = {"crf": "2", "x265-params": f"log-level=error:bframes=0:master-display={MASTERING}:max-cll=1000,400"}
    write(tmp_path / "in.mkv", list(range(4)), Kind("libx265", "yuv420p10le", options, context=PQ), picture=ramp)
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", encoder=EncoderOptions(codec, crf=2))
    before, after = frames(tmp_path / "in.mkv")[0], frames(tmp_path / "out.mkv")[0]
    assert after.format.name == "yuv420p10le"
    assert (after.colorspace, after.color_primaries, after.color_trc, after.color_range) == (9, 9, 16, 1)
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        said = [_numbers(bytes(frame.side_data[kind])) for frame in (before, after)]
        assert said[1] == pytest.approx(said[0], rel=1e-3, abs=1e-4)
    luma = [np.asarray(frame.to_ndarray())[: frame.height] for frame in (before, after)]
    assert len(np.unique(luma[1])) > 60  # 64 steps, more than 8 bits of limited range hold in this part
    assert np.abs(luma[1][::2, ::2].astype(int) - luma[0]).mean() < 2


def _numbers(data: bytes) -> list[float]:
    numbers = np.frombuffer(data, np.int32)
    return list(numbers if len(numbers) < 20 else numbers[:20:2] / numbers[1:20:2])


def test_a_network_of_8_bits_says_that_10_are_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "in.mkv", [0, 1], Kind("libx265", "yuv420p10le", {"x265-params": "log-level=error"}))
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", io_dtype="uint8")
    assert "The frames are reduced to 8 bits" in caplog.text


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm", ".mp4"])
def test_transparency_is_kept_or_said_to_be_lost_before_computing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        stream: Any = container.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "argb"
        for number in range(4):
            pixels = np.dstack([bar(number), np.full((32, 64), 255, np.uint8)])
            pixels[:, 32:, 3] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format="argb")))
        container.mux(stream.encode())
    run(tmp_path / "in.mov", tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        stream = container.streams.video[0]
        decoder: Any = av.CodecContext.create("libvpx-vp9", "r") if suffix == ".webm" else stream.codec_context
        shown = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    alpha = [frame.to_ndarray(format="rgba")[:, :, 3] for frame in shown]
    assert len(shown) == 4
    assert all((image[:, :56] > 250).all() for image in alpha)
    lost = suffix == ".mp4"
    assert all((image[:, 72:] < 5).all() != lost for image in alpha)
    assert ("has transparency, which h264 does not hold" in caplog.text) == lost


def comb(number: int) -> Any:
    """Return two fields; the second shows the bar 6 pixels further right."""
    pixels = bar(2 * number)
    pixels[1::2] = bar(2 * number + 3)[1::2]
    return pixels


def test_interlaced_pictures_are_refused_deinterlaced_or_taken_as_they_are(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"}
    write(tmp_path / "in.mkv", list(range(6)), Kind("mpeg2video", options=options), picture=comb)
    assert frames(tmp_path / "in.mkv")[0].interlaced_frame
    with pytest.raises(ImageError, match="is interlaced") as caught:
        run(tmp_path / "in.mkv", tmp_path / "refused.mkv")
    assert "--deinterlace" in caught.value.hint

    def combing(path: Path) -> float:
        rows = [frame.to_ndarray(format="gray").astype(float) for frame in frames(path)]
        return float(np.mean([np.abs(2 * r[2:-2:4] - r[0:-4:4] - r[4::4]).mean() for r in rows]))

    run(tmp_path / "in.mkv", tmp_path / "as_it_is.mkv", deinterlace=False)
    run(tmp_path / "in.mkv", tmp_path / "whole.mkv", deinterlace=True)
    times = [[frame.pts * frame.time_base for frame in frames(tmp_path / name)] for name in ("in.mkv", "whole.mkv")]
    assert times[0] == times[1]
    assert combing(tmp_path / "whole.mkv") < combing(tmp_path / "as_it_is.mkv") / 3


def test_finished_segments_serve_another_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise OutputError("out.mp4 cannot be written.", "Give another.")

    write(tmp_path / "in.mp4", list(range(5)))
    with monkeypatch.context() as patched:
        patched.setattr("drc_deploy.runtime.video.upscale.join", fail)
        with pytest.raises(OutputError):
            run(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert run(tmp_path / "in.mp4", tmp_path / "out.mkv").calls == []
    assert len(frames(tmp_path / "out.mkv")) == 5


SAID, NOTHING = (9, 9, 14, 2), (2, 2, 2, 0)


@pytest.mark.parametrize(
    ("size", "pix_fmt", "said", "meant"),
    [
        ((480, 720), "yuv420p", NOTHING, Colours(6, 6, 1, 1)),
        ((576, 720), "yuv420p", NOTHING, Colours(6, 5, 1, 1)),
        ((240, 320), "yuv420p", NOTHING, Colours(6, 1, 1, 1)),
        ((720, 1280), "yuv420p", NOTHING, Colours(1, 1, 1, 1)),
        ((1080, 608), "yuv420p", NOTHING, Colours(1, 1, 1, 1)),  # upright
        ((240, 320), "yuvj420p", NOTHING, Colours(6, 1, 1, 2)),
        ((240, 320), "rgb24", (0, 2, 2, 0), Colours(1, 1, 13, 1)),
        ((240, 320), "yuv420p", SAID, Colours(*SAID)),
    ],
)
def test_colours_are_as_said_or_as_players_guess(
    size: tuple[int, int], pix_fmt: str, said: tuple[int, int, int, int], meant: Colours
) -> None:
    frame = av.VideoFrame(size[1], size[0], pix_fmt)
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = said
    context = av.CodecContext.create("rawvideo", "r")
    assert colours_of(frame, context) == meant


def test_a_container_that_is_damaged_between_its_packets_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "in.flv", list(range(8)))
    whole = (tmp_path / "in.flv").read_bytes()
    damaged = 0
    for position in range(250, 600, 3):
        (tmp_path / "bad.flv").write_bytes(whole[:position] + b"\xa2" + whole[position + 1 :])
        try:
            video_info(tmp_path / "bad.flv")
        except ImageError as error:
            damaged += "is damaged" in error.message
    assert damaged


def write_alpha(path: Path, codec: str, pix_fmt: str, options: dict[str, str]) -> None:
    pixels = np.dstack([bar(1), np.full((32, 64), 255, np.uint8)])
    pixels[:, 32:, 3] = 0
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 32, 64, pix_fmt
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format=pix_fmt)))
        container.mux(stream.encode())


@pytest.mark.parametrize(("suffix", "tag"), [(".mov", "ap4h"), (".mkv", None)])
def test_ten_bits_with_transparency_keep_both(tmp_path: Path, suffix: str, tag: str | None) -> None:
    write_alpha(tmp_path / "in.mov", "prores_ks", "yuva444p10le", {"profile": "4444"})
    run(tmp_path / "in.mov", tmp_path / f"out{suffix}")
    assert "yuva444p1" in frames(tmp_path / f"out{suffix}")[0].format.name
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert tag is None or container.streams.video[0].codec_context.codec_tag == tag


def test_a_palette_with_a_clear_colour_is_transparent(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.dstack([bar(1), np.full((32, 64), 255, np.uint8)])
    pixels[:, 32:, 3] = 0
    image = Image.fromarray(pixels).quantize(16)
    images = tmp_path / "in.png"
    image.save(images)
    with av.open(str(images)) as still, av.open(str(tmp_path / "in.mov"), "w") as container:
        stream: Any = container.add_stream("png", rate=25)
        frame = next(still.decode(video=0))
        assert frame.format.name == "pal8"
        stream.height, stream.width, stream.pix_fmt = 32, 64, "pal8"
        for number in range(2):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    run(tmp_path / "in.mov", tmp_path / "out.mov")
    assert frames(tmp_path / "out.mov")[0].to_ndarray(format="rgba")[32, [20, 100], 3].tolist() == [255, 0]


def test_what_is_interlaced_without_saying_so_is_deinterlaced_on_request(tmp_path: Path) -> None:
    write(tmp_path / "in.mkv", list(range(6)), Kind("ffv1", "yuv444p", {"level": "3"}), picture=comb)
    assert not frames(tmp_path / "in.mkv")[0].interlaced_frame
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", deinterlace=True, encoder=EncoderOptions("ffv1"))
    before, after = (
        frames(tmp_path / name)[3].to_ndarray(format="gray").astype(float) for name in ("in.mkv", "out.mkv")
    )
    assert np.abs(np.diff(before[8:24], axis=0)).mean() > 4 * np.abs(np.diff(after[16:48:2], axis=0)).mean()


def test_the_shift_of_a_turned_picture_grows_with_it(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.set_display_matrix((0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30))
        for number in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bar(number), "rgb24")))
        container.mux(stream.encode())
    run(tmp_path / "in.mov", tmp_path / "out.mov")
    matrix = np.frombuffer(bytes(frames(tmp_path / "out.mov")[0].side_data["DISPLAYMATRIX"]), np.int32)
    assert matrix.tolist() == [0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30]


def write_recording(path: Path, begin_s: float, count: int = 12) -> None:
    """Write a transport stream whose clock says ``begin_s`` at its first picture, and 0.02 s later at its sound."""
    with av.open(str(path), "w", format="mpegts", options={"muxdelay": "0", "muxpreload": "0"}) as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "4", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        audio: Any = container.add_stream("mp2", rate=48000, layout="mono", bit_rate=64_000)
        tick = Fraction(1, 90_000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(bar(number), "rgb24")
            frame.pts, frame.time_base = round((begin_s + number / 25) / tick), tick
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), "s16", "mono")
            sound.rate, sound.time_base = 48_000, tick
            sound.pts = round((begin_s + 0.02 + number / 25) / tick)
            container.mux(audio.encode(sound))
        container.mux([*stream.encode(), *audio.encode()])


@pytest.mark.parametrize("begin_s", [36_000, (1 << 33) / 90_000 - 0.2])  # later its 33 bits are at their end
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_recording_begins_at_0_with_its_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, begin_s: float
) -> None:
    for module in ("upscale", "joining"):
        monkeypatch.setattr(f"drc_deploy.runtime.video.{module}.SEGMENT_FRAMES", 5)
    write_recording(tmp_path / "in.ts", begin_s)
    run(tmp_path / "in.ts", tmp_path / f"out{suffix}")
    times = [float(frame.pts * frame.time_base) for frame in frames(tmp_path / f"out{suffix}")]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)
    assert 0 <= times[0] < 0.05
    with av.open(str(tmp_path / f"out{suffix}")) as container, av.open(str(tmp_path / "in.ts")) as source:
        assert container.duration / 1e6 < 1
        first = [
            float(next(packet.pts * packet.time_base for packet in opened.demux(audio=0) if packet.pts is not None))
            for opened in (source, container)
        ]
    lag = first[0] - float(frames(tmp_path / "in.ts")[0].time)
    assert first[1] - times[0] == pytest.approx(lag, abs=0.0015)


def test_recordings_that_were_put_together_are_refused_before_computing(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.ts", 100, 30)
    (tmp_path / "two.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with pytest.raises(ImageError, match="jumps back after 30 pictures"):
        run(tmp_path / "two.ts", tmp_path / "out.mkv")


def test_sound_that_goes_on_after_the_pictures_is_no_damage(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        audio: Any = container.add_stream("flac", rate=8000, layout="mono")
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bar(number), "rgb24")))
        container.mux(stream.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 6), np.int16), "s16", "mono")
        sound.rate, sound.pts, sound.time_base = 8000, 0, Fraction(1, 8000)
        container.mux([*audio.encode(sound), *audio.encode()])
    run(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert len(frames(tmp_path / "out.mkv")) == 10


def test_subtitles_are_left_out_on_request(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mkv", subtitles=True)
    run(tmp_path / "in.mkv", tmp_path / "out.mp4", subtitles=False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.subtitles
        assert container.streams.audio


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.mp4", [0, 1])
    Path("in.mp4").rename("a:b %d.mp4")
    run(Path("a:b %d.mp4"), Path("c:d %d.mp4"))
    assert len(frames(tmp_path / "c:d %d.mp4")) == 2


def test_work_of_another_source_with_the_same_name_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    for suffix in (".mp4", ".mkv"):
        write(tmp_path / f"a{suffix}", list(range(5)))
    with monkeypatch.context() as patched:
        patched.setattr("drc_deploy.runtime.video.upscale.join", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "a.mp4", tmp_path / "out.mp4")
    run(tmp_path / "a.mkv", tmp_path / "out.mkv")
    assert run(tmp_path / "a.mp4", tmp_path / "out.mp4").calls == []


def test_a_matroska_file_that_begins_late_does_not_end_early(tmp_path: Path) -> None:
    write(tmp_path / "in.mkv", list(range(250, 256)))
    run(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert len(frames(tmp_path / "out.mkv")) == 6
