"""Whether the checksums in PNG and TIFF are right, to the last: decoders stop where they have all pixels.

A PNG has one of each chunk (CRC-32), and one of all pixels (Adler-32). A TIFF has the latter for each strip or tile
that is compressed by deflate, and none for others.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from PIL import Image

from drc_deploy.images.checks.tiff_strips import segments
from drc_deploy.images.deflate import deflate

_SIGNATURE_BYTES = 8
_CHUNK_HEAD = struct.Struct(">I4s")
_CRC_BYTES = 4
_PNG_HEAD = struct.Struct(">IIBBBBB")
"""Width, height, bits of a sample, kind of colours, methods of compression, filter and interlacing."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Kind of colours -> samples of a pixel."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: first column and row, steps across and down."""
_PALETTE_BYTES = 3 * 256
_ANCILLARY = 0x20
"""Bit of the first letter of a chunk that pixels do not need (PNG specification, 5.4)."""
_COMPRESSION, _DEFLATE = 259, (8, 32946)
_PIECE_BYTES, _UNPACKED_BYTES = 1 << 16, 1 << 20
"""What is read and unpacked at a time."""
_MOST_LEFT_OVER = 1 << 20
"""Some programs fill up the last rows; a bomb holds far more than decoders unpack."""


def check_png(stream: BinaryIO) -> None:
    """Check that a PNG has all rows, and the checksums of its pixels and of all chunks that pixels need.

    Raises:
        ValueError: a checksum is wrong, or the file or the pixels end early.
    """
    stream.seek(_SIGNATURE_BYTES + _CHUNK_HEAD.size)
    *sizes, compression, filtering, interlacing = _PNG_HEAD.unpack(stream.read(_PNG_HEAD.size))
    if compression or filtering or interlacing > 1:
        raise ValueError("its head names a method that PNG does not have")
    needed = _row_bytes(*sizes, interlaced=bool(interlacing))
    if _check_deflate(_checked_pixels(stream), needed) < needed:
        raise ValueError("it has fewer rows than its size needs")


def check_deflate_of_tiff(image: Image.Image, stream: BinaryIO) -> None:
    """Check the checksums of the strips or tiles of the first page of a TIFF, where they are compressed by deflate.

    Args:
        image: the file in Pillow, not loaded yet.
        stream: the file.

    Raises:
        ValueError: one is wrong, or its strip or tile ends before it.
    """
    if image.tag_v2.get(_COMPRESSION) in _DEFLATE:  # type: ignore[attr-defined]
        for segment in segments(image):
            stream.seek(segment.offset)
            _check_deflate([stream.read(segment.size or -1)], segment.unpacked)


def _row_bytes(width: int, height: int, bits: int, colours: int, *, interlaced: bool) -> int:
    """Return how many bytes the rows of a PNG have, each with one for its filter (PNG specification, 8.2 and 9.1)."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            total += rows * (1 + (columns * bits * _CHANNELS[colours] + 7) // 8)
    return total


def _check_deflate(pieces: Iterable[bytes], needed: int) -> int:
    """Unpack all pieces, in little memory and time whatever they unpack to, and return how many bytes they had."""
    unpacker, total = deflate.decompressobj(), 0
    try:
        for piece in pieces:
            rest, more = piece, True
            while more and not unpacker.eof:
                unpacked = len(unpacker.decompress(rest, _UNPACKED_BYTES))
                total += unpacked
                if total > needed + _MOST_LEFT_OVER:
                    raise ValueError("its data unpack to more than its size needs")
                rest = unpacker.unconsumed_tail
                more = bool(rest) or unpacked == _UNPACKED_BYTES
    except deflate.error as error:  # type: ignore[misc]
        raise ValueError("its compressed data do not agree with their checksum") from error
    if not unpacker.eof:
        raise ValueError("its compressed data end early")
    return total


def _check_place(kind: bytes, length: int, before: set[bytes]) -> None:
    """Raise ValueError for a head or a palette that is not where it must be, or a palette of no colours."""
    if (kind == b"IHDR") == bool(before):
        raise ValueError("its head is not its first chunk, or is there twice")
    if kind == b"PLTE" and (before & {b"PLTE", b"IDAT"} or length % 3 or not 0 < length <= _PALETTE_BYTES):
        raise ValueError("its palette is there twice, behind the pixels, or of a length that none has")


def _checked_pixels(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the compressed pixels of a PNG in pieces; raise ValueError behind a chunk that is wrong."""
    stream.seek(_SIGNATURE_BYTES)
    kind, needed = b"", set[bytes]()
    while kind != b"IEND":
        head = stream.read(_CHUNK_HEAD.size)
        if len(head) < _CHUNK_HEAD.size:
            raise ValueError("it ends before its last chunk")
        length, kind = _CHUNK_HEAD.unpack(head)
        _check_place(kind, length, needed)
        needed.add(kind)
        if kind[0] & _ANCILLARY:
            stream.seek(length + _CRC_BYTES, 1)
            continue
        checksum = zlib.crc32(kind)
        for start in range(0, length, _PIECE_BYTES):
            piece = stream.read(min(_PIECE_BYTES, length - start))
            checksum = zlib.crc32(piece, checksum)
            if kind == b"IDAT":
                yield piece
        if stream.read(_CRC_BYTES) != checksum.to_bytes(_CRC_BYTES, "big"):
            raise ValueError(f"the checksum of its chunk {kind.decode('latin-1')} is wrong")
