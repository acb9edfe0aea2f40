"""EXIF of a photograph made fit for its upscaled version, without moving a byte of it.

Maker notes hold offsets of their own, which only stay right where they are: fields are therefore changed in place
(EXIF 2.32; the structure is that of a TIFF file).
"""

import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

PREFIX = b"Exif\0\0"
"""What a JPEG puts before the structure; PNG and WebP do without."""

ORIENTATION_TAG = 0x0112
_EXIF_IFD_TAG, _GPS_IFD_TAG = 0x8769, 0x8825
_WIDTH_TAGS, _HEIGHT_TAGS = (0x0100, 0xA002), (0x0101, 0xA003)
"""Of the main directory and of the one for EXIF."""
_DESCRIPTIVE_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
"""Description, make, model, software, time, artist, copyright: the fields of a TIFF that are not about storage."""
_ASCII, _SHORT, _LONG = 2, 3, 4
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def upright_exif(exif: bytes, width: int, height: int) -> bytes | None:
    """Say in ``exif`` that the image is upright and has ``width`` x ``height`` pixels, and take its thumbnail away.

    Args:
        exif: the structure, without ``PREFIX``.
        width: of the image that gets it.
        height: of the image that gets it.

    Returns:
        The same number of bytes, or None when they are damaged.
    """
    data = bytearray(exif)
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return None
    values = dict.fromkeys(_WIDTH_TAGS, width) | dict.fromkeys(_HEIGHT_TAGS, height) | {ORIENTATION_TAG: 1}
    try:
        (main,) = struct.unpack_from(f"{order}I", data, 4)
        for directory in (main, *_pointers(data, order, main)):
            for position, tag in _entries(data, order, directory):
                if tag in values:
                    _set(data, order, position, values[tag])
        # The thumbnail lies in the second directory: small, and turned as the photograph was.
        struct.pack_into(f"{order}I", data, _end(data, order, main), 0)
    except struct.error:  # an offset beyond the end
        return None
    return bytes(data)


def orientation_of(image: Image.Image) -> Any:
    """Return what the EXIF of an image file says about how it is turned; 1, upright, where it is damaged or silent."""
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # Pillow meets damage here only, and fails in every way
        return 1


def exif_of_tiff(image: Image.Image) -> bytes | None:
    """Return the fields of a TIFF about its photograph as EXIF, without how its pixels are stored.

    None where it has none, or holds values of a type that their fields cannot have.
    """
    try:
        tags, exif = image.getexif(), Image.Exif()
        for tag in _DESCRIPTIVE_TAGS:
            if tag in tags:
                exif[tag] = tags[tag]
        for tag in (_EXIF_IFD_TAG, _GPS_IFD_TAG):
            if directory := tags.get_ifd(tag):
                exif[tag] = directory
        return exif.tobytes().removeprefix(PREFIX) if len(exif) else None
    except Exception:  # Pillow writes what it read unchecked, and fails in every way
        return None


def describes_the_shot(exif: bytes) -> bool:
    """Return whether ``exif`` points to directories of its own, with exposure, times, lens or place."""
    data, order = bytearray(exif), _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return False
    try:
        (main,) = struct.unpack_from(f"{order}I", data, 4)
        return any(tag in (_EXIF_IFD_TAG, _GPS_IFD_TAG) for _, tag in _entries(data, order, main))
    except struct.error:
        return False


def descriptive_fields(exif: bytes) -> dict[int, str]:
    """Return tag and ASCII text of the fields that describe a photograph; nothing where ``exif`` is damaged."""
    data, order = bytearray(exif), _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return {}
    texts: dict[int, str] = {}
    try:
        for position, tag in _entries(data, order, *struct.unpack_from(f"{order}I", data, 4)):
            kind, length, offset = struct.unpack_from(f"{order}HII", data, position + 2)
            start = position + 8 if length <= 4 else offset
            text = exif[start : start + length].rstrip(b"\0 ")
            if tag in _DESCRIPTIVE_TAGS and kind == _ASCII and text.isascii():
                texts[tag] = text.decode("ascii")
    except struct.error:
        return {}
    return texts


def _pointers(data: bytearray, order: str, directory: int) -> Iterator[int]:
    """Return where the directory for EXIF lies that ``directory`` points to, if it does."""
    for position, tag in _entries(data, order, directory):
        if tag == _EXIF_IFD_TAG:
            yield struct.unpack_from(f"{order}I", data, position + 8)[0]


def _entries(data: bytearray, order: str, directory: int) -> Iterator[tuple[int, int]]:
    """Return position and tag of every field of a directory: tag, type, count and value in 12 bytes."""
    for position in range(directory + 2, _end(data, order, directory), 12):
        yield position, struct.unpack_from(f"{order}H", data, position)[0]


def _end(data: bytearray, order: str, directory: int) -> int:
    """Return where the fields of a directory end and the offset of the next directory stands."""
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    return int(directory + 2 + 12 * count)


def _set(data: bytearray, order: str, position: int, value: int) -> None:
    """Set a field to one number, as a SHORT where it fits: orientation must be one, and sizes may be either."""
    if value < 1 << 16:
        struct.pack_into(f"{order}HIHH", data, position + 2, _SHORT, 1, value, 0)
    else:
        struct.pack_into(f"{order}HII", data, position + 2, _LONG, 1, value)
