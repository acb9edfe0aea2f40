"""Boxes of JPEG 2000 and AVIF files: metadata that Pillow does not hand on (ISO 15444-1, annex I; ISO 14496-12)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_HEAD, _LONG_HEAD = 8, 16
_LONG = 1
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_UUID = b"JpgTiffExif->JP2"
_ENUMERATED, _PROFILE_METHODS = b"\1", (b"\2", b"\3")
"""Methods of a JPEG 2000's colr box: a number, and a colour profile, restricted or any."""
SIZE_MARKER = b"\xff\x4f\xff\x51"
"""Begins a JPEG 2000 codestream."""


class Box(NamedTuple):
    """A box in the bytes of a file."""

    kind: bytes
    content: bytes


def boxes(data: bytes) -> Iterator[Box]:
    """Yield the boxes that follow one another in ``data``, as far as they are whole; the last may reach to the end."""
    position = 0
    while position + _HEAD <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        head = _HEAD
        if size == _LONG and position + _LONG_HEAD <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + _HEAD)
            head = _LONG_HEAD
        end = position + size if size else len(data)
        if size and size < head:
            return
        yield Box(kind, data[position + head : end])
        position = end


def _first(data: bytes, kind: bytes) -> bytes:
    return next((box.content for box in boxes(data) if box.kind == kind), b"")


class Jpeg2000(NamedTuple):
    """What the head of a JPEG 2000 says; a bare codestream says only its bits."""

    bits: tuple[int, ...]
    """Of each component; negative where it is signed."""
    icc_profile: bytes | None
    coded_colour: int | None
    """Number of an enumerated colour space: 16 sRGB, 17 grey, 18 YCbCr and others."""
    xmp: bytes | None
    exif: bytes | None


def read_jpeg_2000(content: bytes) -> Jpeg2000:
    """Read the head of a JPEG 2000."""
    colours = [box.content for box in boxes(_first(content, b"jp2h")) if box.kind == b"colr"]
    profile = next((colour[3:] for colour in colours if colour[:1] in _PROFILE_METHODS), None)
    coded = next((int.from_bytes(colour[3:7], "big") for colour in colours if colour[:1] == _ENUMERATED), None)
    blocks = {box.content[:16]: box.content[16:] for box in boxes(content) if box.kind == b"uuid"}
    return Jpeg2000(_bits(content), profile, coded, blocks.get(_XMP_UUID), blocks.get(_EXIF_UUID))


def _bits(content: bytes) -> tuple[int, ...]:
    """Return the bits of each component, from the marker that gives the size (ISO 15444-1, A.5.1)."""
    start = content.find(SIZE_MARKER)
    if start < 0 or start + 42 > len(content):
        return ()
    (count,) = struct.unpack_from(">H", content, start + 40)
    depths = content[start + 42 : start + 42 + 3 * count : 3]
    return tuple(-((depth & 127) + 1) if depth > 127 else depth + 1 for depth in depths)


class Avif(NamedTuple):
    """What an AVIF says of its main picture and Pillow does not hand on."""

    bits: int
    coding: tuple[int, int] | None
    """Primaries and transfer by the numbers of ITU-T H.273."""


def read_avif(content: bytes) -> Avif:
    """Read the properties of the main picture."""
    meta = _first(content, b"meta")[4:]
    shared = _first(meta, b"iprp")
    properties = list(boxes(_first(shared, b"ipco")))
    main = _first(meta, b"pitm")
    item = int.from_bytes(main[4:], "big")
    wanted = _indices(_first(shared, b"ipma"), item)
    own = [properties[index - 1] for index in wanted if 0 < index <= len(properties)]
    codec = next((box.content for box in own if box.kind == b"av1C"), b"")
    coded = next((box.content for box in own if box.kind == b"colr" and box.content[:4] == b"nclx"), None)
    coding = struct.unpack_from(">HH", coded, 4) if coded and len(coded) >= 8 else None
    return Avif(_av1_bits(codec), coding)


def _av1_bits(codec: bytes) -> int:
    """Return the bits of a sample (AV1 in ISO BMFF, 2.3.3)."""
    if len(codec) < 3 or not codec[2] & 0x40:
        return 8
    return 12 if codec[2] & 0x20 else 10


def _indices(associations: bytes, item: int) -> list[int]:
    """Return the numbers of the properties of an item (ISO 23008-12, 9.3.1)."""
    if len(associations) < 8:
        return []
    long_items, long_indices = associations[0] > 0, bool(associations[3] & 1)
    (count,) = struct.unpack_from(">I", associations, 4)
    position, item_bytes, index_bytes = 8, 4 if long_items else 2, 2 if long_indices else 1
    for _ in range(count):
        number = int.from_bytes(associations[position : position + item_bytes], "big")
        position += item_bytes
        length = associations[position] if position < len(associations) else 0
        parts = associations[position + 1 : position + 1 + length * index_bytes]
        if number == item:
            most = 0x7FFF if long_indices else 0x7F
            starts = range(0, len(parts), index_bytes)
            return [int.from_bytes(parts[start : start + index_bytes], "big") & most for start in starts]
        position += 1 + length * index_bytes
        if position >= len(associations):
            break
    return []
