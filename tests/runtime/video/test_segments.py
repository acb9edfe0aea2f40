"""What lies in the folder of segments is not trusted: it was there for days."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from drc_deploy.errors import OutputError
from drc_deploy.runtime.video.joining import _stored_packets
from drc_deploy.runtime.video.segments import Part, Segments, segments_folder
from tests.runtime.video.video_clips import write_clip

MADE_FROM: dict[str, object] = {"source": "ü.mp4", "frames": 10}


def _three(folder: Path) -> Path:
    """Leave three finished segments, as a run does that is stopped."""
    work = Segments(folder, "nut", MADE_FROM)
    with work.owned():
        work.begin()
        for index in range(3):
            work.path(index).write_bytes(bytes([index]) * 1000)
    return folder


def _kept(folder: Path, made_from: dict[str, object] = MADE_FROM) -> list[str]:
    work = Segments(folder, "nut", made_from)
    with work.owned():
        work.begin()
        return [path.name for path in work.finished()]


def test_segments_are_noted_as_sha256sum_checks_them(tmp_path: Path) -> None:
    folder = _three(tmp_path / "s")
    lines = [f"{hashlib.sha256(bytes([index]) * 1000).hexdigest()}  {index:06d}.nut" for index in range(3)]
    note = f"{hashlib.sha256((folder / 'made_from.json').read_bytes()).hexdigest()}  made_from.json"
    assert (folder / "SHA256SUMS").read_text().splitlines() == [note, *lines]
    assert (
        subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False).returncode == 0
    )
    assert _kept(folder) == ["000000.nut", "000001.nut", "000002.nut"]
    assert _kept(folder, {"other": 1}) == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_segment_with_a_flipped_bit_is_made_anew(tmp_path: Path, index: int) -> None:
    folder = _three(tmp_path / "s")
    segment = folder / f"{index:06d}.nut"
    content = bytearray(segment.read_bytes())
    content[500] ^= 1
    segment.write_bytes(content)
    kept = [f"{other:06d}.nut" for other in range(3) if other != index]
    assert _kept(folder) == kept
    assert sorted(path.name for path in folder.glob("*.nut")) == kept


def test_what_a_killed_run_has_not_noted_is_made_anew(tmp_path: Path) -> None:
    folder = _three(tmp_path / "s")
    (folder / "000003.nut").write_bytes(b"half a segment")
    assert len(_kept(folder)) == 3
    assert not (folder / "000003.nut").exists()


@pytest.mark.parametrize("name", [".000003.17594c99bc3160c7.nut", ".000003.17594c99bc3160c7.nut.new"])
def test_what_a_run_was_making_when_it_was_killed_is_gone_however_young(tmp_path: Path, name: str) -> None:
    folder = _three(tmp_path / "s")
    (folder / name).touch()
    assert len(_kept(folder)) == 3
    assert not (folder / name).exists()


@pytest.mark.parametrize("name", ["made_from.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"{", b"a b c\n\n" * 1000])
def test_a_damaged_note_costs_the_segments_and_nothing_else(tmp_path: Path, name: str, damage: bytes) -> None:
    folder = _three(tmp_path / "s")
    (folder / "mine.txt").write_text("of somebody else")
    (folder / name).write_bytes(damage)
    assert _kept(folder) == []
    assert {path.name for path in folder.iterdir()} == {"mine.txt"}


@pytest.mark.parametrize("damage", [b"\xc3\xbd", b"u"])
def test_a_damaged_name_of_the_source_is_not_taken_for_another_one(tmp_path: Path, damage: bytes) -> None:
    folder, target = _three(tmp_path / "s.segments"), tmp_path / "s.mkv"
    assert segments_folder(target, "ü.mp4") == folder
    assert segments_folder(target, "other.mp4") == tmp_path / "s.mkv.segments"
    note = (folder / "made_from.json").read_bytes()
    (folder / "made_from.json").write_bytes(note.replace(b"\\u00fc", damage))
    assert segments_folder(target, "ü.mp4") == folder


@pytest.mark.parametrize("name", ["made_from.json", "SHA256SUMS"])
def test_a_folder_where_a_file_goes_is_a_sentence(tmp_path: Path, name: str) -> None:
    folder = _three(tmp_path / "s")
    (folder / name).unlink()
    (folder / name / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=f"{name} is a folder"):
        _kept(folder)
    assert (folder / name / "inside").is_dir()


def test_a_folder_in_the_place_of_a_segment_is_none(tmp_path: Path) -> None:
    folder = _three(tmp_path / "s")
    (folder / "000001.nut").unlink()
    (folder / "000001.nut").mkdir()
    assert _kept(folder) == ["000000.nut", "000002.nut"]


def _link_outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("change", [Path.unlink, _link_outside])
def test_what_is_no_file_is_not_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = _three(tmp_path / "s")
    change(folder / "000000.nut")
    assert _kept(folder) == ["000001.nut", "000002.nut"]


def test_a_playlist_in_the_place_of_a_segment_opens_nothing(tmp_path: Path) -> None:
    write_clip(tmp_path / "secret.ts")
    playlist = tmp_path / "000000.nut"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(OutputError, match="no segment"):
        list(_stored_packets([playlist]))


def test_a_list_of_other_work_counts_for_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "x.segments"
    for name, engine in (("kept", "a"), ("other", "b")):
        work = Segments(folder, "nut", {"engine": engine})
        with work.owned(leave=True):
            work.begin()
        part = Segments(folder, "nut", {"engine": engine}, Part(0, 2))
        with part.shared():
            part.take_part()
            part.path(0).write_bytes(name.encode())
        (folder / "SHA256SUMS.000000").rename(tmp_path / name)
    (tmp_path / "kept").rename(folder / "SHA256SUMS.000001")  # as of a worker that nobody has kept out
    (folder / "000000.nut").write_bytes(b"kept")
    work = Segments(folder, "nut", {"engine": "b"})
    with work.owned():
        assert work.begin() == 0
