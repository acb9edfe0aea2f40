"""Whether a video file ends where it says that it does, by the sizes that its container holds."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""Elements of Matroska (RFC 9559, section 5): the header, and all that follows it."""
_BOXES = (b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sidx", b"mfra")
"""Of MP4 and MOV (ISO/IEC 14496-12), at the top level; whatever else follows may be anything."""


def is_cut_off(path: Path) -> bool:
    """Return whether a Matroska, MP4 or AVI file says that it goes on where it ends; False where it does not say.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(8)
        stream.seek(0)
        if head[:4] == _EBML:
            return _matroska_end(stream) > size
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:], "little") > size
        return _boxes_end(stream, size) > size


def _matroska_end(stream: BinaryIO) -> int:
    """Return where the segment ends; 0 where its size was not known when it was written."""
    stream.seek(len(_EBML))
    header = _vint(stream)
    stream.seek(header or 0, os.SEEK_CUR)
    if header is None or stream.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    content = _vint(stream)
    return 0 if content is None else stream.tell() + content


def _vint(stream: BinaryIO) -> int | None:
    """Read a number of 1 to 8 bytes, as many as its first byte has leading zeros (RFC 8794); all ones is unknown."""
    (first,) = stream.read(1) or b"\0"
    length = 9 - first.bit_length()
    rest = stream.read(length - 1)
    value = int.from_bytes(bytes([first]) + rest, "big") - (1 << 7 * length)
    return None if first == 0 or len(rest) < length - 1 or value == (1 << 7 * length) - 1 else value


def _boxes_end(stream: BinaryIO, size: int) -> int:
    """Return where the last box ends that is known."""
    position = 0
    while position < size:
        stream.seek(position)
        length, kind, long_length = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        length = long_length if length == 1 else length
        if kind not in _BOXES or length < 8:  # 0 is to the end
            break
        position += length
    return position
