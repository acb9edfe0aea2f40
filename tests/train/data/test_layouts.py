import os
from pathlib import Path

import pytest

from drc_deploy.train.data.layouts import Sources, find_sources


def tree(root: Path, *files: str) -> Path:
    """Make empty image files; names alone decide what is a photograph."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(sources: Sources) -> list[str]:
    return [source.name for source in sources.found]


def pairs(root: Path, sources: Sources) -> dict[str, dict[int, str]]:
    return {s.name: {factor: p.relative_to(root).as_posix() for factor, p in s.lr} for s in sources.found}


def test_every_image_of_plain_and_nested_folders_is_a_photograph(tmp_path: Path) -> None:
    tree(tmp_path, "b.png", "a/c.JPG", "a/b/d.webp", "a/e.tiff", "notes.txt", ".hidden.png")
    assert names(find_sources([tmp_path], paired=False)) == ["a/b/d.webp", "a/c.JPG", "a/e.tiff", "b.png"]


def test_hidden_folders_hold_no_photographs_and_other_kinds_of_picture_are_reported(tmp_path: Path) -> None:
    tree(tmp_path, "b.png", ".thumbnails/b.png", "a/@eaDir/c.png", "a/d.psd", "notes.txt", ".Trash-1000/e.psd")
    sources = find_sources([tmp_path], paired=False)
    assert names(sources) == ["b.png"]
    assert sources.skipped == (f"{tmp_path}: 1 file is left out: 1 .psd.",)


def test_a_folder_in_the_cache_of_a_network_drive_is_no_lr_folder(tmp_path: Path) -> None:
    tree(tmp_path, "HR/a.png", "LR/@eaDir/X4/a.png", "LR/.thumbnails/X4/a.png")
    assert names(find_sources([tmp_path], paired=True)) == []
    tree(tmp_path, "LR/X4/a.png")
    assert names(find_sources([tmp_path], paired=True)) == ["HR/a.png"]


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X{f}/0001x{f}.png"),
        ("DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic_X{f}/0001x{f}.png"),
        ("Flickr2K_HR/000001.png", "Flickr2K_LR_bicubic/X{f}/000001x{f}.png"),
        ("DF2K_HR/0001.png", "DF2K_LR_bicubic/x{f}/0001x{f}.png"),
        ("HR/baby.png", "LRx{f}/baby.png"),
        ("HR/baby.png", "LRx{f}/babyx{f}.png"),
        ("HR/baby.png", "LR_bicubic/X{f}/babyx{f}.png"),
        ("HR/a/baby.png", "LRx{f}/a/baby.jpg"),
        ("hr/baby.png", "lr_x{f}/baby.png"),
        ("deep/below/HR/baby.png", "deep/below/LR/X{f}/baby.png"),
    ],
)
def test_only_hr_folders_give_photographs_and_lr_folders_their_pairs(tmp_path: Path, hr: str, lr: str) -> None:
    tree(tmp_path, hr, *(lr.format(f=factor) for factor in (2, 4, 8)))
    assert names(find_sources([tmp_path], paired=False)) == [hr]
    assert not find_sources([tmp_path], paired=False).skipped
    found = find_sources([tmp_path], paired=True)
    assert pairs(tmp_path, found) == {hr: {factor: lr.format(f=factor) for factor in (2, 4, 8)}}
    assert not found.skipped


def test_an_hr_folder_given_itself_finds_the_lr_folders_next_to_it(tmp_path: Path) -> None:
    tree(tmp_path, "F_HR/1.png", "F_LR_bicubic/X4/1x4.png")
    found = find_sources([tmp_path / "F_HR"], paired=True)
    assert pairs(tmp_path, found) == {"1.png": {4: "F_LR_bicubic/X4/1x4.png"}}


def test_an_hr_folder_given_as_a_dot_finds_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "HR/1.png", "LRx4/1.png")
    monkeypatch.chdir(tmp_path / "HR")
    assert [factor for factor, _ in find_sources([Path()], paired=True).found[0].lr] == [4]


def test_a_validation_set_is_left_out_unless_it_is_given_itself(tmp_path: Path) -> None:
    tree(tmp_path, "DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png", "DIV2K_valid_HR/0802.png")
    found = find_sources([tmp_path], paired=False)
    assert names(found) == ["DIV2K_train_HR/0001.png"]
    assert found.skipped == (f"{tmp_path}/DIV2K_valid_HR is for validation or tests: its 2 images are left out.",)
    assert names(find_sources([tmp_path / "DIV2K_valid_HR"], paired=False)) == ["0801.png", "0802.png"]


def test_the_lr_images_of_one_set_are_not_taken_for_another(tmp_path: Path) -> None:
    tree(tmp_path, "A_HR/1.png", "A_LR_bicubic/X4/1x4.png", "B_HR/1.png", "B_LR_bicubic/X2/1x2.png")
    assert pairs(tmp_path, find_sources([tmp_path], paired=True)) == {
        "A_HR/1.png": {4: "A_LR_bicubic/X4/1x4.png"},
        "B_HR/1.png": {2: "B_LR_bicubic/X2/1x2.png"},
    }


def test_images_outside_the_hr_folders_are_reported(tmp_path: Path) -> None:
    tree(tmp_path, "HR/1.png", "LRx4/1.png", "photos/2.png", "photos/3.png")
    found = find_sources([tmp_path], paired=False)
    assert names(found) == ["HR/1.png"]
    assert found.skipped == (f"{tmp_path} has HR folders; 2 images lie elsewhere, as {tmp_path}/photos/2.png.",)
    assert names(find_sources([tmp_path, tmp_path / "photos"], paired=False)) == ["HR/1.png", "2.png", "3.png"]


def test_bicubic_is_preferred_to_other_reductions_and_the_choice_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, "D_HR/1.png", "D_LR_bicubic/X4/1x4.png", "D_LR_a/X4/1x4.png", "D_LR_unknown/X2/1x2.png")
    found = find_sources([tmp_path], paired=True)
    assert pairs(tmp_path, found)["D_HR/1.png"] == {2: "D_LR_unknown/X2/1x2.png", 4: "D_LR_bicubic/X4/1x4.png"}
    (sentence,) = found.skipped
    assert sentence.startswith(f"{tmp_path}/D_LR_a/X4 is not used")


def test_an_image_without_its_lr_image_is_left_out_when_pairs_are_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, "HR/1.png", "HR/2.png", "LRx2/1.png", "LRx2/2.png", "LRx4/1.png")
    found = find_sources([tmp_path], paired=True)
    assert names(found) == ["HR/1.png"]
    assert found.skipped == (f"{tmp_path}/HR/2.png has no LR image in {tmp_path}/LRx4.",)


def test_a_folder_without_lr_folders_gives_nothing_when_pairs_are_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png")
    found = find_sources([tmp_path], paired=True)
    assert found.found == ()
    assert found.skipped == (f"{tmp_path} has no LR folders: its 2 images are left out.",)


def test_a_file_is_found_once_however_often_its_folder_is_given(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/2.png")
    assert names(find_sources([tmp_path, tmp_path / "a", tmp_path], paired=False)) == ["a/1.png", "b/2.png"]


def test_links_to_folders_are_listed_and_not_followed(tmp_path: Path) -> None:
    tree(tmp_path / "photos", "a.png", "below/b.png")
    tree(tmp_path / "elsewhere", "c.png")
    (tmp_path / "photos" / "below" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "circle").symlink_to(tmp_path / "photos")
    sources = find_sources([tmp_path / "photos"], paired=False)
    assert names(sources) == ["a.png", "below/b.png"]
    assert [sentence.split(" is a link")[0] for sentence in sources.skipped] == [
        str(tmp_path / "photos" / "below" / "link"),
        str(tmp_path / "photos" / "circle"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is closed to root")
def test_folders_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    sources = find_sources([tmp_path], paired=False)
    (tmp_path / "closed").chmod(0o700)
    assert names(sources) == ["a.png"]
    assert sources.skipped == (f"{tmp_path / 'closed'} cannot be searched: Permission denied.",)
