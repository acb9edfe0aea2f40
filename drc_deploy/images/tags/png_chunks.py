"""Chunks of a PNG other than its pixels: those that describe colours, and texts (PNG specification, third edition)."""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

XMP_KEYWORD, COMMENT_KEYWORD = b"XML:com.adobe.xmp", b"Comment"
_RAW_PROFILE = b"Raw profile type "
"""Keyword of ImageMagick, which others read too: metadata as hexadecimal digits."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_SIGNATURE_BYTES = 8
_HEAD = struct.Struct(">I4s")
_CRC_BYTES = 4
_MOST_TEXT = 1 << 20
"""Bytes that a compressed text may unpack to: as many as Pillow takes, which refuses a file with more."""
_DIGITS_A_LINE = 72


class Chunk(NamedTuple):
    """A chunk as it stands in a file."""

    kind: bytes
    data: bytes

    @property
    def keyword(self) -> bytes:
        """What a text is about."""
        return self.data.partition(b"\0")[0]


def read_chunks(stream: BinaryIO, kinds: tuple[bytes, ...]) -> list[Chunk]:
    """Return the chunks of some kinds of a PNG, in their order, as far as the file goes; pixels are not read."""
    return list(_chunks(stream, kinds))


def _chunks(stream: BinaryIO, kinds: tuple[bytes, ...]) -> Iterator[Chunk]:
    stream.seek(_SIGNATURE_BYTES)
    while len(head := stream.read(_HEAD.size)) == _HEAD.size:
        length, kind = _HEAD.unpack(head)
        if kind in kinds:
            data = stream.read(length)
            stream.seek(_CRC_BYTES, 1)
            yield Chunk(kind, data)
        else:
            stream.seek(length + _CRC_BYTES, 1)


def read_texts(stream: BinaryIO) -> list[Chunk]:
    """Return the texts of a PNG as they are stored."""
    return read_chunks(stream, _TEXTS)


def text_of(chunk: Chunk) -> bytes | None:
    """Return the text of a chunk, of at most 1 MiB where it is compressed; None where it is damaged."""
    _, _, rest = chunk.data.partition(b"\0")
    if chunk.kind == b"tEXt":
        return rest
    if chunk.kind == b"zTXt":
        return _unpacked(rest[1:])
    compressed, _, rest = rest[:1], rest[1:2], rest[2:]
    _, _, rest = rest.partition(b"\0")  # the language
    _, _, text = rest.partition(b"\0")  # the keyword in it
    return _unpacked(text) if compressed == b"\1" else text


def raw_profile(chunk: Chunk) -> tuple[str, bytes] | None:
    """Return kind and content of metadata that ImageMagick wrote as text; None for every other text."""
    if not chunk.keyword.startswith(_RAW_PROFILE):
        return None
    kind = chunk.keyword.removeprefix(_RAW_PROFILE).decode("latin-1").lower()
    # A name and the number of bytes, each on a line, come first.
    _, _, digits = ((text_of(chunk) or b"").lstrip().split(b"\n", 2) + [b""] * 2)[:3]
    try:
        return kind, bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return kind, b""


def raw_profile_chunk(kind: str, content: bytes) -> Chunk:
    """Write metadata as ImageMagick does, for what has no place of its own in a PNG."""
    digits = content.hex()
    lines = [digits[start : start + _DIGITS_A_LINE] for start in range(0, len(digits), _DIGITS_A_LINE)]
    text = "\n".join(["", kind, f"{len(content):8d}", *lines, ""])
    return Chunk(b"zTXt", _RAW_PROFILE + kind.encode("ascii") + b"\0\0" + zlib.compress(text.encode("ascii")))


def xmp_chunk(xmp: bytes) -> Chunk:
    """Write XMP, uncompressed as its specification asks (part 3, 1.1.5)."""
    return Chunk(b"iTXt", XMP_KEYWORD + bytes(5) + xmp)


def _unpacked(data: bytes) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, _MOST_TEXT)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else text
