import errno
import os
from pathlib import Path
from typing import Any

import pytest

from drc_deploy.errors import ImageError
from drc_deploy.images.finding import Found, find_images, list_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_lists_images_below_it_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/c.JPG", "a.png", ".hidden.png", "notes.txt", "b/a.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkdir(tmp_path / "folder.png")
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == ["a.png", "b/a.webp", "b/c.JPG"]


def test_a_folder_that_may_not_be_read_is_reported_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.png").touch()
    real = os.scandir

    def scandir(folder: str) -> Any:
        if os.path.basename(folder) == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not bind whoever runs tests as root
    with pytest.raises(ImageError, match="closed cannot be read"):
        list_images(tmp_path)


HIDDEN = ".thumbnails .git .Trash-1000 .@__thumb @eaDir @EADIR __MACOSX $RECYCLE.BIN #recycle"


@pytest.mark.parametrize("hidden", [*HIDDEN.split(), "System Volume Information"])
def test_hidden_folders_and_those_of_the_system_are_not_searched_unless_they_are_named(
    tmp_path: Path, hidden: str
) -> None:
    touch(tmp_path, "a.png", f"{hidden}/t.png", f"{hidden}/deep/u.png", f"b/{hidden}/v.png")
    assert list_images(tmp_path) == [tmp_path / "a.png"]
    named = tmp_path / hidden
    assert list_images(named) == [named / "deep" / "u.png", named / "t.png"]


def test_pictures_and_videos_of_other_kinds_are_counted_by_suffix_and_texts_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.SVG", "c.psd", "d.psd", "notes.txt", "a.xmp", ".e.svg", ".thumbnails/f.svg", "v.mp4")
    found = find_images(tmp_path)
    assert found.files == [tmp_path / "a.png"]
    assert found.left_out("photos") == "photos: 4 files are left out: 1 .mp4, 2 .psd, 1 .svg."
    os.remove(tmp_path / "b.SVG")
    os.remove(tmp_path / "c.psd")
    os.remove(tmp_path / "v.mp4")
    assert find_images(tmp_path).left_out("photos") == "photos: 1 file is left out: 1 .psd."
    os.remove(tmp_path / "d.psd")
    assert find_images(tmp_path).left_out("photos") == ""


def test_every_suffix_of_a_jpeg_counts(tmp_path: Path) -> None:
    touch(tmp_path, "a.jfif", "b.jpe", "c.JPEG", "d.jpg")
    assert [path.name for path in list_images(tmp_path)] == ["a.jfif", "b.jpe", "c.JPEG", "d.jpg"]


def test_program_text_is_no_video(tmp_path: Path) -> None:
    for name, content in (("a.ts", b"Global"), ("b.ts", b"\0\0\0\0Global"), ("c.ts", b"import x"), ("d.ts", b"")):
        (tmp_path / name).write_bytes(content)
    assert [path.name for path in Found.among(tmp_path.iterdir(), videos=True).files] == ["a.ts", "b.ts"]
