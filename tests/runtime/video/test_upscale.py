import io
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.cli.main import main
from drc_deploy.errors import DrcDeployError, ImageError, OutputError
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome, RunOptions
from drc_deploy.runtime.upscaler import Upscaler
from drc_deploy.runtime.video.joining import join
from drc_deploy.runtime.video.reading import video_info
from drc_deploy.runtime.video.upscale import OneVideo
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest, write_nearest
from tests.runtime.video.video_clips import BT709, TICK, TIMES, content, write_clip

pytest.importorskip("av")
pytestmark = pytest.mark.usefixtures("short_segments")


class Counting(FakeBackend):
    """Calls ``before`` with the number of the frame."""

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        super().__init__(fake_info())
        self._before = before

    def run(self, batch: Pixels) -> Pixels:
        self._before(len(self.calls))
        return super().run(batch)


def run(source: Path, target: Path, backend: FakeBackend | None = None, engine: str = "a", **options: Any) -> Outcome:
    upscaler = Upscaler(backend or Counting())
    return OneVideo(upscaler, UpscaleJob(source, target), RunOptions(**options), {"engine": engine}).upscale()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("rotation", [0, 90])
def test_everything_but_the_size_of_the_pictures_is_kept(tmp_path: Path, suffix: str, rotation: int) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_clip(source, rotation=rotation, subtitles=suffix == ".mkv")
    outcome = run(source, target)
    before, after = content(source), content(target)
    assert after.times_s == before.times_s
    assert (after.rotation, after.pixel_aspect) == (rotation, Fraction(4, 3))
    assert after.colours == before.colours == (BT709,) * 4
    assert after.packets == before.packets
    assert len(after.packets["audio"]) > 19
    if suffix == ".mkv":
        assert [text for _, text in after.packets["subtitle"]] == [b"Hello", b"Goodbye"]
        assert after.languages == ["eng"]
    if suffix != ".mkv":  # which counts in milliseconds
        assert after.times_s == [time * TICK for time in TIMES]
    (finished,) = outcome.finished
    shown = (96, 128) if rotation else (128, 96)
    assert (finished.width, finished.height, finished.frames) == (*shown, 10)
    assert left_in(tmp_path) == {source.name, target.name} | ({"in.srt"} if suffix == ".mkv" else set())


def test_every_picture_is_the_upscaled_one_of_its_time(clip: Path, tmp_path: Path) -> None:
    run(clip, tmp_path / "out.mp4")
    before, after = content(clip), content(tmp_path / "out.mp4")
    distances = np.array(
        [
            [np.abs(nearest(source, 2).astype(int) - result).mean() for source in before.pictures]
            for result in after.pictures
        ]
    )
    assert distances.argmin(axis=1).tolist() == list(range(10))
    assert distances.min(axis=1).max() < 2
    np.fill_diagonal(distances, 255)
    assert distances.min() > 10


def test_a_clip_without_sound_is_fine(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", sound=False)
    run(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert content(tmp_path / "out.mp4").packets == {}


def stop_at(frame: int) -> Callable[[int], None]:
    def stop(number: int) -> None:
        if number == frame:
            raise KeyboardInterrupt

    return stop


def test_a_stopped_run_goes_on_after_its_last_segment_with_the_same_result(clip: Path, tmp_path: Path) -> None:
    run(clip, tmp_path / "whole.mp4")
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out.mp4", Counting(stop_at(7)))
    assert threading.active_count() == threads
    assert left_in(tmp_path) == {"in.mp4", "whole.mp4", "out.segments"}
    assert left_in(tmp_path / "out.segments") == {"000000.nut", "000001.nut", "SHA256SUMS", "made_from.json"}
    rest = Counting()
    assert run(clip, tmp_path / "out.mp4", rest).finished[0].frames == 10
    assert len(rest.calls) == 4
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert left_in(tmp_path) == {"in.mp4", "whole.mp4", "out.mp4"}


def test_when_only_the_joining_was_missing_nothing_is_computed_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("drc_deploy.runtime.video.upscale.join", stop)
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path / "out.mp4")
    again = Counting()
    assert run(clip, tmp_path / "out.mp4", again).finished[0].frames == 10
    assert again.calls == []


def test_a_run_that_fails_in_its_first_segment_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out.mp4", Counting(stop_at(1)))
    assert left_in(tmp_path) == {"in.mp4"}


def test_work_before_damage_is_used_when_damage_is_tolerated(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out.mp4", Counting(stop_at(7)))
    rest = Counting()
    run(clip, tmp_path / "out.mp4", rest, tolerant=True)
    assert len(rest.calls) == 4


@pytest.mark.parametrize("changed", ["engine", "source"])
def test_unfinished_work_of_another_engine_or_source_is_not_used(clip: Path, tmp_path: Path, changed: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out.mp4", Counting(stop_at(7)))
    if changed == "source":
        write_clip(clip, rotation=90)
    anew = Counting()
    run(clip, tmp_path / "out.mp4", anew, engine="b" if changed == "engine" else "a")
    assert len(anew.calls) == 10


def replace_at(frame: int, source: Path, by: Path) -> Callable[[int], None]:
    def replace(number: int) -> None:
        if number == frame:
            by.replace(source)

    return replace


@pytest.mark.parametrize("frame", [0, 9])
def test_a_source_that_changes_meanwhile_has_no_result(clip: Path, tmp_path: Path, frame: int) -> None:
    write_clip(tmp_path / "new.mp4", rotation=90)
    with pytest.raises(ImageError, match=r"in\.mp4 changed while it was upscaled"):
        run(clip, tmp_path / "out.mp4", Counting(replace_at(frame, clip, tmp_path / "new.mp4")))
    assert left_in(tmp_path) == {"in.mp4"}


def test_a_source_that_changes_during_the_joining_has_no_result(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "new.mp4", rotation=90)

    def replace_first(*arguments: Any, **options: Any) -> int:
        (tmp_path / "new.mp4").replace(clip)
        return join(*arguments, **options)

    monkeypatch.setattr("drc_deploy.runtime.video.upscale.join", replace_first)
    with pytest.raises(ImageError, match="changed while it was upscaled"):
        run(clip, tmp_path / "out.mp4")
    assert left_in(tmp_path) == {"in.mp4"}


def test_a_second_run_into_the_same_result_is_refused_and_spoils_nothing(clip: Path, tmp_path: Path) -> None:
    def run_another(number: int) -> None:
        if number == 7:
            with pytest.raises(OutputError, match=r"another process is writing .*out\.segments"):
                run(clip, tmp_path / "out.mp4", engine="b")

    assert run(clip, tmp_path / "out.mp4", Counting(run_another)).finished[0].frames == 10
    run(clip, tmp_path / "alone.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    assert left_in(tmp_path) == {"in.mp4", "out.mp4", "alone.mp4"}


def test_a_segment_that_vanishes_never_makes_a_shorter_video(clip: Path, tmp_path: Path) -> None:
    segments = tmp_path / "out.segments"

    def remove(number: int) -> None:
        if number == 9:
            (segments / "000000.nut").unlink()

    with pytest.raises(OutputError, match=r"000000\.nut is gone"):
        run(clip, tmp_path / "out.mp4", Counting(remove))
    assert left_in(tmp_path) == {"in.mp4", "out.segments"}
    assert run(clip, tmp_path / "out.mp4").finished[0].frames == 10


def test_a_damaged_segment_never_becomes_a_shorter_video(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out.mp4", Counting(stop_at(7)))
    folder = tmp_path / "out.segments"
    whole = (folder / "000001.nut").read_bytes()
    (folder / "000001.nut").write_bytes(whole[: len(whole) * 2 // 3])
    assert run(clip, tmp_path / "out.mp4").finished[0].frames == 10
    run(clip, tmp_path / "whole.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_streams_that_the_target_cannot_hold_are_refused_before_computing(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mkv", subtitles=True)
    backend = Counting()
    with pytest.raises(OutputError, match="mp4 cannot hold subtitles of subrip") as caught:
        run(tmp_path / "in.mkv", tmp_path / "out.mp4", backend)
    assert "--no-subtitles" in caught.value.hint
    assert backend.calls == []
    assert left_in(tmp_path) == {"in.mkv", "in.srt"}


def test_bad_videos_are_refused_with_a_sentence(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:6000])  # its index is at the end
    for name in ("text.mp4", "empty.mp4", "cut.mp4", "missing.mp4"):
        with pytest.raises(ImageError, match=name) as caught:
            run(tmp_path / name, tmp_path / "out.mp4")
        assert caught.value.hint
    assert not (tmp_path / "out.mp4").exists()
    assert not (tmp_path / "out.segments").exists()


def test_a_name_with_a_colon_is_a_file_and_no_protocol(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip.rename("12:30.mp4")
    assert video_info(Path("12:30.mp4")).frame_count == len(TIMES)


def test_a_recording_without_its_end_is_called_so(clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: content.index(b"moov") - 40])  # the index follows the pictures
    with pytest.raises(ImageError, match="ends too early"):
        video_info(tmp_path / "cut.mp4")


def test_a_playlist_opens_no_other_file(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(ImageError, match="cannot be read as a video"):
        video_info(tmp_path / "list.mp4")


def write_growing(path: Path) -> None:
    """Write four frames of 32x32 and four of 64x48, as one stream of H.264."""
    import av

    data = b""
    for height, width in ((32, 32), (48, 64)):
        part = io.BytesIO()
        with av.open(part, "w", format="h264") as container:
            video = container.add_stream("libx264", rate=25)
            video.height, video.width, video.pix_fmt = height, width, "yuv420p"
            for _ in range(4):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), "rgb24")))
            container.mux(video.encode())
        data += part.getvalue()
    with av.open(io.BytesIO(data), format="h264") as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            container.mux(packet)


def test_frames_that_change_their_size_are_refused(tmp_path: Path) -> None:
    write_growing(tmp_path / "in.mkv")
    with pytest.raises(ImageError, match="changes from 32x32 to 64x48 pixels after 4 frames"):
        run(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("kind", ["cut.mkv", "cut.mp4", "damaged.mp4"])
def test_a_damaged_video_is_refused_and_never_a_shorter_or_wrong_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    write_long_clip(tmp_path / kind)
    content_bytes = bytearray((tmp_path / kind).read_bytes())
    if kind.startswith("cut"):
        del content_bytes[len(content_bytes) // 2 :]
    else:
        start = packet_position(tmp_path / kind, 30)
        content_bytes[start : start + 40] = bytes(range(40))
    (tmp_path / kind).write_bytes(content_bytes)
    with pytest.raises(ImageError, match="ends early: it holds" if kind.startswith("cut") else "damaged") as caught:
        run(tmp_path / kind, tmp_path / "out.mkv")
    assert "--tolerant" in caught.value.hint
    assert not (tmp_path / "out.mkv").exists()
    finished = run(tmp_path / kind, tmp_path / "out.mkv", tolerant=True).finished[0]
    assert 0 < finished.frames < 60 if kind.startswith("cut") else finished.frames >= 50
    assert kind in caplog.text


def packet_position(path: Path, number: int) -> int:
    import av

    with av.open(str(path)) as container:
        positions: list[int | None] = [packet.pos for packet in container.demux(video=0)]
    position = positions[number]
    assert position
    return position


def write_long_clip(path: Path) -> None:
    """Write sixty noisy frames, with the index before them where there is one."""
    import av

    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": "bframes=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        container.mux(stream.encode())


COLOUR = (200, 60, 20)


def write_flat(path: Path, codec: str, pix_fmt: str) -> None:
    """Write five frames of ``COLOUR``."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), COLOUR, np.uint8), "rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264rgb", "rgb24"),
        ("ffv1", "bgr0"),
        ("ffv1", "yuv444p"),
        ("ffv1", "yuv420p10le"),
        ("mjpeg", "yuvj420p"),
        ("mpeg4", "yuv420p"),
    ],
)
def test_colours_stay_however_they_are_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, pix_fmt: str
) -> None:
    write_flat(tmp_path / "in.mkv", codec, pix_fmt)
    run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    result = content(tmp_path / "out.mp4")
    assert result.colours[0] != 0  # RGB, which YUV must not be taken for
    for picture in result.pictures:
        assert np.abs(picture.astype(int) - COLOUR).max() <= 5
    assert ("The frames are reduced to 8 bits" in caplog.text) == pix_fmt.endswith("10le")  # by this network


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.avi"])
def test_all_frames_are_counted_before_they_are_decoded(tmp_path: Path, name: str) -> None:
    if name.endswith("avi"):
        write_flat(tmp_path / name, "mpeg4", "yuv420p")
    else:
        write_clip(tmp_path / name)  # with frames that wait for later ones
    info = video_info(tmp_path / name)
    assert info.frame_count == len(content(tmp_path / name).pictures)
    assert info.notes == ()


@pytest.mark.parametrize("full", [".000001.", ".out."])
def test_a_full_disk_keeps_what_is_finished(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    import av

    real_open = av.open

    def open_on_a_full_disk(file: str, *arguments: Any, **options: Any) -> Any:
        if Path(file).name.startswith(full):
            Path(file).unlink()
            Path(file).symlink_to("/dev/full")
        return real_open(file, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(av, "open", open_on_a_full_disk)
        with pytest.raises(OutputError, match="No space left"):
            run(clip, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert "000000.nut" in left_in(tmp_path / "out.segments")
    rest = Counting()
    run(clip, tmp_path / "out.mp4", rest)
    assert len(rest.calls) < 10


def test_nothing_is_written_over_and_what_is_finished_is_skipped(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"mine")
    with pytest.raises(DrcDeployError, match="exists already"):
        run(clip, tmp_path / "out.mp4")
    assert run(clip, tmp_path / "out.mp4", skip_existing=True).skipped[0].output == str(tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"mine"
    run(clip, tmp_path / "out.mp4", overwrite=True)
    assert len(content(tmp_path / "out.mp4").pictures) == 10


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_meanwhile_is_written_over_only_on_request(
    clip: Path, tmp_path: Path, overwrite: bool
) -> None:
    def appear(number: int) -> None:
        if number == 5:
            (tmp_path / "out.mp4").write_bytes(b"mine")

    if overwrite:
        run(clip, tmp_path / "out.mp4", Counting(appear), overwrite=True)
    else:
        with pytest.raises(OutputError, match="exists already"):
            run(clip, tmp_path / "out.mp4", Counting(appear))
        assert (tmp_path / "out.mp4").read_bytes() == b"mine"
        again = Counting()
        run(clip, tmp_path / "out.mp4", again, overwrite=True)
        assert again.calls == []  # what was computed is kept
    assert len(content(tmp_path / "out.mp4").pictures) == 10


def test_the_command_upscales_a_video(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nearest(tmp_path / "n.onnx")
    with pytest.raises(SystemExit) as done:
        main(["upscale", str(clip), "--engine", str(tmp_path / "n.onnx")])
    assert done.value.code == 0
    assert "in_x4.mp4  256x192" in capsys.readouterr().out
    assert content(tmp_path / "in_x4.mp4").pictures[0].shape == (192, 256, 3)


def test_a_missing_library_is_named(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nearest(tmp_path / "n.onnx")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SystemExit) as done:
        main(["upscale", str(clip), "--engine", str(tmp_path / "n.onnx")])
    assert done.value.code == 1
    assert "pip install 'drc-deploy[video]'" in capsys.readouterr().err


def test_an_avi_keeps_its_pictures_too(tmp_path: Path) -> None:
    write_flat(tmp_path / "in.avi", "mpeg4", "yuv420p")
    run(tmp_path / "in.avi", tmp_path / "out.mp4")
    assert content(tmp_path / "out.mp4").times_s == [Fraction(number, 10) for number in range(5)]
