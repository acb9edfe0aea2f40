import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ImageError
from drc_deploy.images.reading import decode_image
from tests.core.images.checks.test_tiff_strips import HEIGHT, STRIP_ROWS, WIDTH, set_size

START_OF_FRAME, START_OF_SCAN, END = (0xC0, 0xC2), 0xDA, b"\xff\xd9"


def picture() -> NDArray[np.uint8]:
    """Noise: every block takes many bits, so that lost data cannot go unseen."""
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(stream, options.pop("format", "JPEG"), **options)
    return stream.getvalue()


KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "full colours": {"subsampling": 0, "quality": 98},
    "several pictures": {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (8, 8))]},
}


def segment(content: bytes, *markers: int) -> int:
    """Return where the first segment with one of the markers begins (ITU-T T.81, B.1.1)."""
    at = 2
    while content[at + 1] not in markers:
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at


def data(content: bytes) -> tuple[int, int]:
    """Return where the coded data of the first scan begin, and where the picture ends."""
    start = segment(content, START_OF_SCAN)
    end = content.index(END, start)
    return start + 2 + int.from_bytes(content[start + 2 : start + 4], "big"), end


def with_height(content: bytes, height: int) -> bytes:
    at = segment(content, *START_OF_FRAME) + 5
    return content[:at] + struct.pack(">H", height) + content[at + 2 :]


def with_zeros(content: bytes) -> bytes:
    start, end = data(content)
    third = (end - start) // 3
    return content[: start + third] + bytes(third) + content[start + 2 * third :]


def ended_early(content: bytes) -> bytes:
    middle = sum(data(content)) // 2
    return content[:middle] + END + content[middle:]


def without_the_middle(content: bytes) -> bytes:
    start, end = data(content)
    third = (end - start) // 3
    return content[: start + third] + content[start + 2 * third :]


def with_data_left_over(content: bytes) -> bytes:
    return with_height(content, 48)


DAMAGE: tuple[Callable[[bytes], bytes], ...] = (
    with_zeros,
    ended_early,
    without_the_middle,
    with_data_left_over,
    lambda content: with_height(content, 80),
    lambda content: with_height(content, 20_000),
    lambda content: content[: data(content)[1]],
    lambda content: content[: sum(data(content)) // 2],
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_that_the_decoder_only_warns_of_is_refused(kind: str, damage: Callable[[bytes], bytes]) -> None:
    whole = jpeg(**KINDS[kind])
    decode_image(whole, "x")
    with pytest.raises(ImageError, match="x is damaged: ") as caught:
        decode_image(damage(whole), "x")
    assert "--tolerant" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_left_of_it_can_be_had_with_a_note(kind: str, damage: Callable[[bytes], bytes]) -> None:
    whole = jpeg(**KINDS[kind])
    found = decode_image(damage(whole), "x", tolerant=True)
    expected = decode_image(whole, "x")
    assert any(note.startswith(("x ends early", "x is damaged: ")) for note in found.notes)
    if kind != "progressive":  # every scan of it holds all rows
        assert np.array_equal(found.pixels[:8], expected.pixels[:8])


def test_the_note_says_what_the_decoder_found() -> None:
    for damage, finding in (
        (with_data_left_over, "extraneous bytes before marker 0xd9"),
        (ended_early, "premature end of data segment"),
        (lambda content: content[: sum(data(content)) // 2], "x ends early"),
    ):
        (note,) = decode_image(damage(jpeg()), "x", tolerant=True).notes
        assert finding in note


VALID: dict[str, Callable[[bytes], bytes]] = {
    "other bytes behind the end": lambda content: content + b"anything" * 50,
    "another picture behind the end": lambda content: content + content[: len(content) // 2],
    "fill bytes before a marker": lambda content: (
        content[: segment(content, START_OF_SCAN)] + b"\xff\xff" + content[segment(content, START_OF_SCAN) :]
    ),
    "a version of JFIF that is not known": lambda content: content.replace(b"JFIF\0\1", b"JFIF\0\7"),
    "a profile with a missing part": lambda content: (
        content[:2] + b"\xff\xe2" + struct.pack(">H", 18) + b"ICC_PROFILE\0\2\2ab" + content[2:]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", VALID)
def test_what_is_odd_and_whole_is_read(kind: str, change: str) -> None:
    whole = jpeg(**KINDS[kind])
    changed = VALID[change](whole)
    assert changed != whole or "JFIF" in change  # which a CMYK lacks
    assert np.array_equal(decode_image(changed, "x").pixels, decode_image(whole, "x").pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (8, 8), (65, 1)])
def test_the_smallest_are_read(size: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "JPEG")
    assert decode_image(stream.getvalue(), "x").pixels.shape == (size[1], size[0], 3)


def tiff(mode: str) -> bytearray:
    stream = io.BytesIO()
    row_bytes = 96 * len(Image.new(mode, (1, 1)).getbands())
    Image.fromarray(picture()).convert(mode).save(stream, "TIFF", compression="jpeg", strip_size=16 * row_bytes)
    return bytearray(stream.getvalue())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpegs_in_a_tiff_are_looked_at_too(mode: str) -> None:
    whole = bytes(tiff(mode))
    assert decode_image(whole, "x").pixels.shape[:2] == (64, 96)
    start, end = data(whole[whole.index(b"\xff\xd8", whole.index(END)) :])  # behind the tables
    first = whole.index(b"\xff\xd8", whole.index(END))
    zeros = whole[: first + start + 100] + bytes(end - start - 200) + whole[first + end - 100 :]
    with pytest.raises(ImageError, match="x is damaged"):
        decode_image(zeros, "x")


@pytest.mark.parametrize(("tag", "size"), [(WIDTH, 640), (HEIGHT, 640)])
def test_jpegs_that_are_smaller_than_the_strips_of_a_tiff_are_refused(tag: int, size: int) -> None:
    content = set_size(tiff("RGB"), tag, size)
    if tag == HEIGHT:
        set_size(content, STRIP_ROWS, size)
    with pytest.raises(ImageError, match="strips or tiles has 96x16 pixels instead of"):
        decode_image(bytes(content), "x")
