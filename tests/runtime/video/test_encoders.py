"""What each encoder makes of a video, and what it is kept away from."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import OutputError, UsageError
from drc_deploy.runtime.video.options import CODECS, Codec, EncoderOptions
from tests.runtime.video.kept_clips import Kind, bar, frames, run, write

av = pytest.importorskip("av")


def test_every_codec_that_runs_here_writes_what_it_was_given(tmp_path: Path) -> None:
    write(tmp_path / "in.mp4", list(range(5)))
    for codec in CODECS:
        if codec.endswith("nvenc"):  # needs a GPU
            continue
        target = tmp_path / f"{codec}.{'mov' if codec == 'prores' else 'mkv'}"
        run(tmp_path / "in.mp4", target, encoder=EncoderOptions(codec))
        result = frames(target)
        assert len(result) == 5
        error = np.abs(result[3].to_ndarray(format="rgb24").astype(int) - bar(3).repeat(2, 0).repeat(2, 1))
        assert error.mean() < 6, codec


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EncoderOptions("h264", crf=60), "--crf 60 is not for h264"),
        (EncoderOptions("prores", crf=10), "prores has no --crf"),
        (EncoderOptions("ffv1", preset="slow"), "ffv1 has no --preset slow"),
        (EncoderOptions("hevc", preset="quick"), "hevc has no --preset quick"),
    ],
)
def test_settings_that_an_encoder_lacks_are_wrong_usage(tmp_path: Path, options: EncoderOptions, words: str) -> None:
    write(tmp_path / "in.mp4", [0, 1])
    with pytest.raises(UsageError, match=words):
        run(tmp_path / "in.mp4", tmp_path / "out.mkv", encoder=options)


def test_a_codec_that_the_format_cannot_hold_is_refused_before_computing(tmp_path: Path) -> None:
    write(tmp_path / "in.mp4", [0, 1])
    with pytest.raises(OutputError, match=r"out\.webm cannot be written"):
        run(tmp_path / "in.mp4", tmp_path / "out.webm", encoder=EncoderOptions("h264"))


def test_an_encoder_that_cannot_work_here_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in.mp4", [0, 1])
    if Path("/dev/nvidiactl").exists():
        pytest.skip("its encoder works here")
    with pytest.raises(OutputError, match="hevc_nvenc cannot encode this video here") as caught:
        run(tmp_path / "in.mp4", tmp_path / "out.mp4", encoder=EncoderOptions("hevc_nvenc"))
    assert "--codec" in caught.value.hint


def test_a_picture_that_makes_an_encoder_crash_is_refused(tmp_path: Path) -> None:
    def narrow(number: int) -> Any:
        return bar(number, 32, 20)

    write(tmp_path / "in.mp4", [0, 1], picture=narrow)
    with pytest.raises(OutputError, match="it has 40 columns, and needs 64"):
        run(tmp_path / "in.mp4", tmp_path / "out.mp4", encoder=EncoderOptions("hevc"))


@pytest.mark.parametrize(
    ("codec", "suffix", "kept"),
    [
        ("h264", ".mp4", True),
        ("hevc", ".mkv", True),
        ("vp9", ".mp4", True),
        ("av1", ".mp4", True),
        ("prores", ".mov", True),
        ("vp9", ".webm", False),
        ("ffv1", ".mkv", False),
        ("av1", ".mkv", False),
    ],
)
def test_the_shape_of_pixels_is_kept_or_said_to_be_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: Codec, suffix: str, kept: bool
) -> None:
    write(tmp_path / "in.mp4", [0, 1], Kind(context={"sample_aspect_ratio": Fraction(16, 11)}))
    run(tmp_path / "in.mp4", tmp_path / f"out{suffix}", encoder=EncoderOptions(codec))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert (container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)) == kept
    assert ("pixels that are not square" in caplog.text) != kept


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1", "prores"])
def test_a_full_range_looks_the_same_by_every_codec(tmp_path: Path, codec: Codec) -> None:
    greys = np.repeat(np.linspace(0, 255, 8).round().astype(np.uint8), 8)

    def steps(_: int) -> Any:
        return np.broadcast_to(greys[None, :, None], (32, 64, 3)).copy()

    full = {"colorspace": 1, "color_range": 2, "color_primaries": 1, "color_trc": 1}
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        for name, value in full.items():
            setattr(stream.codec_context, name, value)
        frame = av.VideoFrame.from_ndarray(steps(0), "rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=2)))
        container.mux(stream.encode())
    target = tmp_path / ("out.mov" if codec == "prores" else "out.mkv")
    run(tmp_path / "in.mp4", target, encoder=EncoderOptions(codec))
    source, result = (
        shown.reformat(format="rgb24", src_colorspace=1, src_color_range=shown.color_range).to_ndarray().astype(int)
        for shown in (frames(tmp_path / "in.mp4")[0], frames(target)[0])
    )
    assert np.abs(result[32, 8::16] - source[16, 4::8]).max() <= 3


@pytest.mark.parametrize("codec", ["hevc", "prores"])
def test_files_for_apple_have_the_names_that_its_players_go_by(tmp_path: Path, codec: Codec) -> None:
    write(tmp_path / "in.mov", [0, 1])
    run(tmp_path / "in.mov", tmp_path / "out.mov", encoder=EncoderOptions(codec))
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams.video[0].codec_context.codec_tag == {"hevc": "hvc1", "prores": "apch"}[codec]


@pytest.mark.parametrize(("codec", "suffix"), [(None, ".mp4"), ("hevc", ".mkv"), ("prores", ".mov"), ("ffv1", ".mkv")])
def test_odd_sizes_lose_a_row_or_a_column_where_the_encoder_needs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: Codec | None, suffix: str
) -> None:
    def odd(number: int) -> Any:
        return bar(number, 33, 49)

    write(tmp_path / "in.mkv", [0, 1, 2], Kind("ffv1", "yuv444p", {"level": "3"}), picture=odd)
    run(tmp_path / "in.mkv", tmp_path / f"out{suffix}", scale=3, encoder=EncoderOptions(codec))
    first = frames(tmp_path / f"out{suffix}")[0]
    expected = {"ffv1": (99, 147), "prores": (99, 146)}.get(codec or "", (98, 146))
    assert (first.height, first.width) == expected
    assert ("is left out" in caplog.text) == (codec != "ffv1")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling to look at")
def test_an_encoder_leaves_the_scheduling_of_its_thread(tmp_path: Path) -> None:
    """SVT-AV1 makes it one of real time where it is root, and what is computed next waits for ever."""
    write(tmp_path / "in.mp4", [0, 1])
    run(tmp_path / "in.mp4", tmp_path / "out.mkv", encoder=EncoderOptions("av1"))  # which tries it in this thread first
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
