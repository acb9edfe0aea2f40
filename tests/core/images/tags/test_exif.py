import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from drc_deploy.images.tags.exif import PREFIX, descriptive_fields, exif_of_tiff, upright_exif

ORIENTATION, MAKE, EXIF_DIRECTORY, GPS_DIRECTORY = 0x0112, 0x010F, 0x8769, 0x8825
WIDTH, HEIGHT, MAKER_NOTE = 0xA002, 0xA003, 0x927C
NOTE = b"maker note with offsets of its own"


def photograph_exif(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "Camera Works"
    exif[EXIF_DIRECTORY] = {WIDTH: 50, HEIGHT: 40, MAKER_NOTE: NOTE}
    exif[GPS_DIRECTORY] = {1: "N"}
    return exif.tobytes().removeprefix(PREFIX)


def read(exif: bytes) -> Image.Exif:
    fields = Image.Exif()
    fields.load(exif)
    return fields


@pytest.mark.parametrize("size", [(200, 160), (70000, 65535)])
def test_an_upscaled_photograph_is_upright_and_has_its_own_size(size: tuple[int, int]) -> None:
    changed = upright_exif(photograph_exif(), *size)
    assert changed is not None
    fields = read(changed)
    directory = fields.get_ifd(EXIF_DIRECTORY)
    assert (fields[ORIENTATION], fields[MAKE]) == (1, "Camera Works")
    assert (directory[WIDTH], directory[HEIGHT]) == size
    assert fields.get_ifd(GPS_DIRECTORY) == {1: "N"}


def test_nothing_moves_for_maker_notes_count_on_it() -> None:
    exif = photograph_exif()
    changed = upright_exif(exif, 200, 160)
    assert changed is not None
    assert len(changed) == len(exif)
    assert changed.index(NOTE) == exif.index(NOTE)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_is_taken_away_in_both_byte_orders(order: str) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    main = struct.pack(f"{order}HHHIHHI", 1, ORIENTATION, 3, 1, 8, 0, 26)
    thumbnail = struct.pack(f"{order}HHHIII", 1, 0x0201, 4, 1, 99, 0)
    changed = upright_exif(head + main + thumbnail, 4, 4)
    assert changed is not None
    assert read(head + main + thumbnail).get_ifd(ExifTags.IFD.IFD1) == {0x0201: 99}
    assert read(changed).get_ifd(ExifTags.IFD.IFD1) == {}
    assert read(changed)[ORIENTATION] == 1


@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0"]))
def test_no_bytes_break_it(tail: bytes, head: bytes) -> None:
    changed = upright_exif(head + tail, 10, 10)
    assert changed is None or len(changed) == len(head + tail)
    descriptive_fields(head + tail)


def test_a_cut_exif_is_none() -> None:
    exif = photograph_exif()
    assert upright_exif(exif[:30], 4, 4) is None
    assert upright_exif(b"no exif at all", 4, 4) is None


def test_the_fields_that_describe_are_found() -> None:
    assert descriptive_fields(photograph_exif()) == {MAKE: "Camera Works"}


def test_a_tiff_is_read_for_the_photograph_and_not_of_its_storage() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, "TIFF", exif=PREFIX + photograph_exif(orientation=1))
    with Image.open(buffer) as image:
        exif = exif_of_tiff(image)
    assert exif is not None
    fields = read(exif)
    assert set(fields) == {MAKE, EXIF_DIRECTORY, GPS_DIRECTORY}
    assert fields.get_ifd(EXIF_DIRECTORY)[MAKER_NOTE] == NOTE
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4)).save(buffer, "TIFF")
    with Image.open(buffer) as image:
        assert exif_of_tiff(image) is None
