"""IPTC records of a photograph: captions and keywords, in the block of Photoshop's resources where JPEG keeps them."""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from drc_deploy.images.tiff_kinds import first_page

_SIGNATURE, _IPTC = b"8BIM", 0x0404
_JPEG_NAME = b"Photoshop 3.0\0"
_APP13 = b"\xff\xed"
_RECORD_MARK = 0x1C
"""First byte of every record (IPTC-IIM 4.2, 1.5)."""
MAX_JPEG_BYTES = 65533 - len(_JPEG_NAME) - 13
"""What a segment holds, without the heads and a byte that makes them even."""
_IPTC_TAG, _RESOURCES_TAG = 33723, 34377


def iptc_in(resources: bytes) -> bytes | None:
    """Return the IPTC records in a block of Photoshop's resources, or of records alone; None without any."""
    resources = resources.removeprefix(_JPEG_NAME)
    if resources[:1] == bytes([_RECORD_MARK]):
        return resources
    return next((data for number, data in _resources(resources) if number == _IPTC and data), None)


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while block[position : position + 4] == _SIGNATURE and position + 12 <= len(block):
        number, name_bytes = struct.unpack_from(">HB", block, position + 4)
        start = position + 6 + (name_bytes + 2) // 2 * 2  # the name and its length are padded to be even
        size = int.from_bytes(block[start : start + 4], "big")
        yield number, block[start + 4 : start + 4 + size]
        position = start + 4 + size + size % 2


def iptc_of_tiff(tags: Any, stream: BinaryIO) -> bytes | None:
    """Return the IPTC records of a TIFF.

    Args:
        tags: of its first directory, as Pillow has read them.
        stream: the file.
    """
    records = _bytes_of_tag(stream) if _IPTC_TAG in tags else None
    if records:
        return records
    resources = tags.get(_RESOURCES_TAG)
    return iptc_in(resources) if isinstance(resources, bytes) else None


def _bytes_of_tag(stream: BinaryIO) -> bytes | None:
    """Return the records in a tag of their own; Photoshop calls them numbers of 32 bits, and Pillow keeps one."""
    page = first_page(stream)
    value = page and page.tags.valueof(_IPTC_TAG)
    forms = [value]
    if isinstance(value, tuple):
        forms = [struct.pack(f"{order}{len(value)}I", *value) for order in "<>"]
    return next((data for data in forms if isinstance(data, bytes) and data[:1] == bytes([_RECORD_MARK])), None)


def resource_block(iptc: bytes) -> bytes:
    """Return IPTC records as a block of one resource."""
    return _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def jpeg_segment(iptc: bytes) -> bytes:
    """Return IPTC records of at most ``MAX_JPEG_BYTES`` as a segment of a JPEG."""
    content = _JPEG_NAME + resource_block(iptc)
    return _APP13 + struct.pack(">H", len(content) + 2) + content
