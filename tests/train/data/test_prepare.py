"""Making a store, and being interrupted while making it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ArtefactError, OutputError, TrainingError, UsageError
from drc_deploy.images.reading import read_rgb
from drc_deploy.only_one import only_one
from drc_deploy.train.data import decoding
from drc_deploy.train.data.decoding import Catalogue
from drc_deploy.train.data.prepare import Prepared, PrepareOptions, prepare
from drc_deploy.train.data.store import open_store
from tests.patience import PATIENCE_S
from tests.train.data.photograph_files import noise, write, write_div2k, write_many
from tests.train.interruption import interrupt_after

KILLED_WHILE_DECODING = """
import os, signal, sys
from pathlib import Path
from drc_deploy.train.data import decoding, prepare

read = decoding.read_rgb

def read_until_killed(path):
    if path.name == "0035.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)

decoding.read_rgb = read_until_killed
prepare.prepare([Path(sys.argv[1])], Path(sys.argv[2]), prepare.PrepareOptions())
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_many(tmp_path / "photos", 40)
    (tmp_path / "photos" / "0003b.png").write_bytes(b"not an image")
    shutil.copy(tmp_path / "photos" / "0001.png", tmp_path / "photos" / "0004b.png")
    return tmp_path / "photos"


def make(store: Path, *folders: Path, options: PrepareOptions | None = None) -> Prepared:
    return prepare(folders, store, options or PrepareOptions())


def make_and_interrupt(
    monkeypatch: pytest.MonkeyPatch,
    store: Path,
    folder: Path,
    *,
    after: int,
    options: PrepareOptions | None = None,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, Catalogue, "add", after)
        with pytest.raises(KeyboardInterrupt):
            make(store, folder, options=options)


def content(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reads: list[str] = []

    def read(path: Path) -> NDArray[np.uint8]:
        reads.append(path.name)
        return read_rgb(path)

    monkeypatch.setattr(decoding, "read_rgb", read)
    return reads


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow over ``size`` bytes: the kernel refuses the write, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_good_bad_small_and_equal_images(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    rgb = write(photos / "a.png", noise(1, 100, 97))
    Image.fromarray(rgb).save(photos / "a_again.tif")
    Image.fromarray(rgb).save(photos / "a_webp.webp", lossless=True)
    write(photos / "small.png", noise(2, 500, 95))
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    write(photos / "deep" / "z.png", noise(3, 96, 300))
    index = make(tmp_path / "store", photos).index
    assert [entry.name for entry in index.entries] == ["a.png", "deep/z.png"]
    again, webp, bad, small = index.skipped
    assert again == f"{photos}/a_again.tif has the same pixels as a.png."
    assert webp == f"{photos}/a_webp.webp has the same pixels as a.png."
    assert bad.startswith(f"{photos}/bad.jpg")
    assert small == f"{photos}/small.png is too small: 95x500 pixels."


def test_pairs_are_stored_at_every_power_of_two(tmp_path: Path) -> None:
    write_div2k(tmp_path / "div2k")
    make(tmp_path / "store", tmp_path / "div2k", options=PrepareOptions(lr="paired"))
    photographs = open_store(tmp_path / "store")
    assert [entry.name for entry in photographs.entries] == ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png"]
    second = photographs.entries[1]
    np.testing.assert_array_equal(photographs.image(second.hr), noise(2, 201, 330))
    assert [factor for factor, _ in second.lr] == [2, 4, 8]
    for factor, placed in second.lr:
        np.testing.assert_array_equal(photographs.image(placed), noise(1000 * factor + 2, 201 // factor, 330 // factor))


def test_a_pair_of_wrong_size_is_left_out(tmp_path: Path) -> None:
    write_div2k(tmp_path / "div2k")
    wrong = tmp_path / "div2k" / "DIV2K_train_LR_bicubic" / "X4" / "0001x4.png"
    write(wrong, noise(9, 51, 82))
    index = make(tmp_path / "store", tmp_path / "div2k", options=PrepareOptions(lr="paired")).index
    assert [entry.name for entry in index.entries] == ["DIV2K_train_HR/0002.png"]
    assert f"{wrong} has 82x51 pixels, not 82x50." in index.skipped


def test_equal_hr_images_with_other_lr_images_are_two_photographs(tmp_path: Path) -> None:
    for part, seed in (("A", 1), ("B", 2)):
        write(tmp_path / f"{part}_HR" / "1.png", noise(0, 96, 96))
        write(tmp_path / f"{part}_LR_bicubic" / "X4" / "1x4.png", noise(seed, 24, 24))
    assert len(make(tmp_path / "paired", tmp_path, options=PrepareOptions(lr="paired")).index.entries) == 2
    assert len(make(tmp_path / "made", tmp_path).index.entries) == 1


def test_a_killed_run_leaves_no_store_and_the_next_one_removes_what_it_left(photos: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED_WHILE_DECODING, str(photos), str(killed)]
    assert subprocess.run(command, timeout=PATIENCE_S, check=False, capture_output=True).returncode == -signal.SIGKILL
    left = tmp_path / ".killed.unfinished"
    assert (left / "pixels.bin").exists()
    assert not killed.exists()
    make(whole, photos)
    assert make(killed, photos).made
    assert content(killed) == content(whole)
    assert not left.exists()


def test_ctrl_c_leaves_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_and_interrupt(monkeypatch, tmp_path / "store", photos, after=33)
    assert list(tmp_path.iterdir()) == [photos]


@pytest.mark.parametrize("size", [10, 400_000])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(photos: Path, tmp_path: Path, size: int) -> None:
    with full_disk(size), pytest.raises(OutputError, match="File too large"):
        make(tmp_path / "store", photos)
    assert list(tmp_path.iterdir()) == [photos]


def test_a_store_of_other_sources_or_options_is_refused(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    make(store, photos)
    before = content(store)
    (photos / "0000.png").unlink()
    write(photos / "0001.png", noise(99))
    write(photos / "new.png", noise(98))
    with pytest.raises(UsageError) as caught:
        make(store, photos, options=PrepareOptions(min_side=64))
    for difference in ("--min-side 96 then, 64 now", "1 files new", "1 files missing", "1 files changed", "0001.png"):
        assert difference in caught.value.message
    assert "--restart" in caught.value.hint
    assert content(store) == before
    make(store, photos, options=PrepareOptions(min_side=64, restart=True))
    make(tmp_path / "fresh", photos, options=PrepareOptions(min_side=64))
    assert content(store) == content(tmp_path / "fresh")


def test_the_old_store_stays_until_the_new_one_is_complete(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "store", photos)
    before = content(tmp_path / "store")
    make_and_interrupt(monkeypatch, tmp_path / "store", photos, after=33, options=PrepareOptions(restart=True))
    assert content(tmp_path / "store") == before


def test_the_old_store_comes_back_where_the_new_one_cannot_take_its_place(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "store", photos)
    before, rename = content(tmp_path / "store"), Path.rename

    def refuse_the_new_one(path: Path, target: Path) -> Path:
        if path.name.endswith(".unfinished"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OutputError):
        make(tmp_path / "store", photos, options=PrepareOptions(restart=True))
    assert content(tmp_path / "store") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store"]


def test_a_run_that_was_killed_while_it_replaced_the_store_has_lost_nothing(photos: Path, tmp_path: Path) -> None:
    make(tmp_path / "store", photos)
    before = content(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / ".store.replaced")
    assert not make(tmp_path / "store", photos).made
    assert before.items() <= content(tmp_path / "store").items()


def test_a_finished_store_is_left_alone(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    assert make(store, photos).made
    reads = count_reads(monkeypatch)
    prepared = make(store, photos)
    assert not prepared.made
    assert not reads
    with pytest.raises(UsageError, match=r"folders .* then, .* now"):
        make(store, photos.parent)
    assert make(store, photos.parent, options=PrepareOptions(restart=True)).made


def test_a_damaged_finished_store_is_not_called_finished(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    make(store, photos)
    os.truncate(store / "pixels.bin", 100)
    with pytest.raises(ArtefactError, match="bytes instead of"):
        make(store, photos)
    assert make(store, photos, options=PrepareOptions(restart=True)).made
    assert open_store(store).entries


def test_a_store_inside_its_source_reads_only_the_images(photos: Path) -> None:
    assert len(make(photos / "store", photos).index.entries) == 40
    assert not make(photos / "store", photos).made
    assert len(open_store(photos / "store").entries) == 40


@pytest.mark.parametrize("name", ["index.json", "pixels.bin", "notes.txt"])
@pytest.mark.parametrize("restart", [False, True])
def test_files_of_other_programs_are_not_lost(photos: Path, tmp_path: Path, name: str, restart: bool) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / name).write_text("precious")
    with pytest.raises(UsageError, match=f"holds a file {name} that belongs to no store"):
        make(tmp_path / "site", photos, options=PrepareOptions(restart=restart))
    assert content(tmp_path / "site") == {name: b"precious"}


def test_a_file_that_was_put_into_a_store_is_not_lost(photos: Path, tmp_path: Path) -> None:
    make(tmp_path / "store", photos)
    (tmp_path / "store" / "notes.txt").write_text("precious")
    assert not make(tmp_path / "store", photos).made
    with pytest.raises(UsageError, match=r"notes\.txt"):
        make(tmp_path / "store", photos, options=PrepareOptions(restart=True))
    assert open_store(tmp_path / "store").entries


def test_the_current_folder_is_not_replaced(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="is in use and cannot be replaced"):
        make(Path(), photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "photos"]


def test_a_link_to_an_empty_folder_stays_a_link(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "store").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "store")
    make(tmp_path / "link", photos)
    assert (tmp_path / "link").is_symlink()
    assert open_store(tmp_path / "disk" / "store").entries


@pytest.mark.parametrize("files", [{}, {"a.png": b"bad"}])
def test_folders_without_a_usable_image_leave_no_store(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "photos").mkdir()
    for name, data in files.items():
        (tmp_path / "photos" / name).write_bytes(data)
    with pytest.raises(TrainingError, match="holds no image that training can use"):
        make(tmp_path / "store", tmp_path / "photos")
    assert list(tmp_path.iterdir()) == [tmp_path / "photos"]


def test_a_file_where_the_store_should_be_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        make(tmp_path / "store", photos)


def test_a_second_prepare_of_the_same_store_is_refused(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    unfinished = tmp_path / ".store.unfinished"
    unfinished.mkdir()
    with only_one(unfinished), pytest.raises(OutputError, match="another process is writing"):
        make(store, photos, options=PrepareOptions(restart=True))
    assert list(unfinished.iterdir()) == []
    make(store, photos)
    assert open_store(store).entries
