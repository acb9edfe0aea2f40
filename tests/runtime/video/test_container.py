import struct
from pathlib import Path

import pytest

from drc_deploy.errors import ImageError
from drc_deploy.runtime.video.container import is_cut_off
from drc_deploy.runtime.video.reading import video_info
from tests.runtime.video.video_clips import write_clip

pytest.importorskip("av")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_a_whole_video_is_whole_and_one_byte_less_is_not(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    write_clip(path)
    content = path.read_bytes()
    assert not is_cut_off(path)
    for missing in (1, 10, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:-missing])
        assert is_cut_off(path)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_less_than_a_second_that_is_missing_is_reported(tmp_path: Path, part: float) -> None:
    path = tmp_path / "in.mkv"
    write_clip(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ImageError, match="longer than it is"):
        video_info(path)
    assert "longer than it is" in video_info(path, tolerant=True).notes[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF" + bytes(4) + b"AVI of a stream, whose size was not known",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7,  # a recording: its size is unknown
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x40",
        struct.pack(">I4s", 0, b"mdat") + bytes(5),  # to the end
        struct.pack(">I4s", 16, b"free") + bytes(8) + b"anything that a camera may have added",
    ],
)
def test_what_does_not_say_how_long_it_is_is_not_cut(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_cut_off(tmp_path / "x")


def test_a_length_of_64_bits_counts(tmp_path: Path) -> None:
    for size, cut in ((40, False), (41, True)):
        (tmp_path / "x").write_bytes(struct.pack(">I4sQ", 1, b"mdat", size) + bytes(24))
        assert is_cut_off(tmp_path / "x") == cut
