import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import ArtefactError, TrainingError
from drc_deploy.images.reading import read_rgb
from drc_deploy.train.data.folders import open_photographs, read_folder
from drc_deploy.train.data.prepare import PrepareOptions, prepare
from tests.train.data.photograph_files import noise, write, write_div2k, write_many


def test_images_of_mixed_sizes_come_back_pixel_by_pixel(tmp_path: Path) -> None:
    expected = write_many(tmp_path / "photos", 5)
    photographs = read_folder(tmp_path / "photos")
    assert photographs.name == "photos"
    assert [entry.name for entry in photographs.entries] == [f"{n:04}.png" for n in range(5)]
    for entry, image in zip(photographs.entries, expected, strict=True):
        np.testing.assert_array_equal(photographs.image(entry.hr), image)
    assert len(photographs.pixels) == sum(image.shape[0] * image.shape[1] for image in expected)


def test_every_kind_of_image_becomes_8_bit_rgb(tmp_path: Path) -> None:
    rgb = noise(1)
    grey = rgb[:, :, 0]
    deep = rgb.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "16bit.png"), deep[:, :, ::-1])
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([rgb, 255 - grey])).save(tmp_path / "rgba.png")
    cmyk = np.dstack([255 - rgb, np.zeros_like(grey)])
    Image.frombytes("CMYK", (rgb.shape[1], rgb.shape[0]), cmyk.tobytes()).save(tmp_path / "cmyk.tif")
    photographs = read_folder(tmp_path)
    images = {entry.name: photographs.image(entry.hr) for entry in photographs.entries}
    np.testing.assert_array_equal(images["16bit.png"], rgb)
    np.testing.assert_array_equal(images["grey.png"], np.dstack([grey] * 3))
    # CMYK without ink on the black plate is RGB inverted, and alpha is dropped: the same picture three times.
    assert sorted(images) == ["16bit.png", "grey.png"]
    assert photographs.skipped == tuple(
        f"{tmp_path}/{name} has the same pixels as 16bit.png." for name in ("cmyk.tif", "rgba.png")
    )


def test_corrupt_files_among_good_ones_are_listed(tmp_path: Path) -> None:
    write_many(tmp_path, 2)
    whole = (tmp_path / "0000.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.webp").write_text("not an image")
    photographs = read_folder(tmp_path)
    assert len(photographs.entries) == 2
    assert [sentence.split()[0] for sentence in photographs.skipped] == [
        str(tmp_path / name) for name in ("cut.png", "empty.jpg", "text.webp")
    ]


def test_div2k_does_not_train_on_its_lr_or_validation_images(tmp_path: Path) -> None:
    write_div2k(tmp_path)
    photographs = read_folder(tmp_path)
    assert [entry.name for entry in photographs.entries] == ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png"]
    assert not any(entry.lr for entry in photographs.entries)


@pytest.mark.parametrize("content", [None, b"not an image"])
def test_a_folder_without_a_readable_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(TrainingError, match="holds no image that training can use") as caught:
        read_folder(tmp_path)
    assert ("a.png" in caught.value.hint) == bool(content)


def test_decoding_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    write_many(tmp_path, 3 * (os.cpu_count() or 1) + 3)
    before = list(warnings.filters)
    read_folder(tmp_path)
    assert list(warnings.filters) == before


def test_a_store_and_its_folder_open_as_the_same_photographs(tmp_path: Path) -> None:
    write_many(tmp_path / "photos", 4)
    prepare([tmp_path / "photos"], tmp_path / "store", PrepareOptions())
    store, folder = open_photographs(tmp_path / "store"), open_photographs(tmp_path / "photos")
    assert isinstance(store.pixels, np.memmap)
    assert store.entries == folder.entries
    assert store.fingerprint == folder.fingerprint
    np.testing.assert_array_equal(store.pixels, folder.pixels)


def test_a_folder_with_an_index_of_another_program_is_read_as_images(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(1))
    (tmp_path / "index.json").write_text('{"pages": []}')
    assert len(open_photographs(tmp_path).entries) == 1


def test_a_store_that_lost_its_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pixels.bin").touch()
    with pytest.raises(ArtefactError, match=r"without index\.json"):
        open_photographs(tmp_path)


def test_real_photographs_decode_as_they_do_one_by_one(photograph: Path) -> None:
    photographs = read_folder(photograph.parent)
    for entry in photographs.entries:
        np.testing.assert_array_equal(photographs.image(entry.hr), read_rgb(photograph.parent / entry.name))
