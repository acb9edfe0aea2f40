import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.train.data.prepare import PrepareOptions, prepare
from drc_deploy.train.data.store import open_store
from tests.train.data.photograph_files import write_many


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_many(tmp_path / "photos", 3)
    prepare([tmp_path / "photos"], tmp_path / "store", PrepareOptions())
    return tmp_path / "store"


def change_index(store: Path, **values: Any) -> None:
    path = store / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_format_is_what_its_description_says(store: Path) -> None:
    """Read with nothing but numpy and json."""
    index = json.loads((store / "index.json").read_text())
    pixels = (store / "pixels.bin").read_bytes()
    assert hashlib.sha256(pixels).hexdigest() == index["sha256"]
    last = index["entries"][-1]["hr"]
    image = np.frombuffer(pixels, np.uint8, offset=3 * last["offset"]).reshape(last["height"], last["width"], 3)
    photographs = open_store(store)
    np.testing.assert_array_equal(photographs.image(photographs.entries[-1].hr), image)


def test_the_pixels_cannot_be_written_through_the_map(store: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_store(store).pixels[0] = 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "store of version 2; this program reads 1"),
        ({"schema": 99}, "metadata of version 99"),
        ({"format": "another"}, "not the index of a store"),
        ({"entries": []}, "impossible metadata"),
        ({"entries": [{"name": 1}]}, "entries"),
        ({"size": 3}, "impossible metadata"),
        ({"sha256": "0" * 64}, "is damaged: its SHA-256"),
    ],
)
def test_an_index_that_cannot_be_right_is_refused(store: Path, values: dict[str, Any], message: str) -> None:
    change_index(store, **values)
    with pytest.raises(ArtefactError, match=message):
        open_store(store)


def test_an_image_out_of_its_place_is_refused(store: Path) -> None:
    entries = json.loads((store / "index.json").read_text())["entries"]
    entries[1]["hr"]["offset"] += 1
    change_index(store, entries=entries)
    with pytest.raises(ArtefactError, match="one after another"):
        open_store(store)


def test_a_cut_index_is_refused(store: Path) -> None:
    path = store / "index.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match="valid JSON") as caught:
        open_store(store)
    assert "--restart" in caught.value.hint


def test_truncated_pixels_are_refused(store: Path) -> None:
    size = (store / "pixels.bin").stat().st_size
    os.truncate(store / "pixels.bin", size - 1)
    with pytest.raises(ArtefactError, match=f"has {size - 1} bytes instead of {size}"):
        open_store(store)


def test_missing_pixels_are_refused(store: Path) -> None:
    (store / "pixels.bin").unlink()
    with pytest.raises(ArtefactError, match="No such file"):
        open_store(store)


def test_one_changed_bit_is_found_before_and_after_a_good_opening(store: Path) -> None:
    flip_one_bit(store / "pixels.bin")
    with pytest.raises(ArtefactError, match="SHA-256"):
        open_store(store)
    flip_one_bit(store / "pixels.bin")
    open_store(store)
    flip_one_bit(store / "pixels.bin")
    with pytest.raises(ArtefactError, match="SHA-256"):
        open_store(store)


def test_a_verified_file_is_not_read_again(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(store)
    assert "Verifying" in capsys.readouterr().err
    open_store(store)
    assert "Verifying" not in capsys.readouterr().err


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"sha256": "0"}'])
def test_a_damaged_stamp_only_costs_another_check(store: Path, stamp: str) -> None:
    (store / "verified.json").write_text(stamp)
    assert len(open_store(store).entries) == 3


def test_a_store_without_room_for_the_stamp_opens(store: Path) -> None:
    (store / "verified.json").mkdir()  # what root cannot write either
    assert len(open_store(store).entries) == 3


def test_sizes_that_change_places_in_the_index_are_found(tmp_path: Path) -> None:
    """The same pixels in rows of another length are another image."""
    write_many(tmp_path / "photos", 1)
    prepare([tmp_path / "photos"], tmp_path / "store", PrepareOptions())
    store = tmp_path / "store"
    open_store(store)  # and remember that it is whole
    entries = json.loads((store / "index.json").read_text())["entries"]
    entries[0]["hr"] |= {"height": entries[0]["hr"]["width"], "width": entries[0]["hr"]["height"]}
    change_index(store, entries=entries)
    with pytest.raises(ArtefactError, match="SHA-256"):
        open_store(store)
