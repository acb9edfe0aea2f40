"""Animated WebP (WebP container specification). Pillow reads it whole, and would hold all of it while writing."""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import OutputError
from drc_deploy.images.animation.parts import AnimationWriter, Head
from drc_deploy.images.animation.ticks import Ticks
from drc_deploy.images.png_stream import Layout

_HEAD = struct.Struct("<4sI")
_RIFF_HEAD_BYTES = 12
_HAS_PROFILE, _HAS_ALPHA, _HAS_EXIF, _HAS_XMP, _ANIMATED = 0x20, 0x10, 0x08, 0x04, 0x02
_NOT_BLENDED = 0x02
_FRAME = b"ANMF"
_PIXELS = (b"ALPH", b"VP8 ", b"VP8L")
_MOST_BYTES = 2**32 - 10
_MOST_PLAYS = 0xFFFF
_PER_SECOND = 1000


def says_animated(stream: BinaryIO) -> bool:
    """Return whether a WebP has more than one frame."""
    stream.seek(0)
    return [kind for kind, _, _ in _chunks(stream)].count(_FRAME) > 1


def without_missing(stream: BinaryIO) -> BinaryIO | None:
    """Return a WebP that ends early as one that ends after its last whole part; None where nothing is missing."""
    stream.seek(0)
    head = stream.read(_RIFF_HEAD_BYTES)
    end = stream.seek(0, io.SEEK_END)
    if int.from_bytes(head[4:8], "little") + _HEAD.size <= end:
        return None
    whole = [offset + length for _, offset, length in _chunks(stream) if offset + length <= end]
    stream.seek(_RIFF_HEAD_BYTES)
    content = stream.read(max(whole, default=_RIFF_HEAD_BYTES) - _RIFF_HEAD_BYTES)
    content += bytes(len(content) % 2)
    return io.BytesIO(_HEAD.pack(b"RIFF", len(content) + 4) + b"WEBP" + content)


class WebpWriter(AnimationWriter):
    """Writes an animated WebP, each part in the place of what was there."""

    longest = Fraction((1 << 24) - 1, _PER_SECOND)
    grid = 2

    def __init__(self, stream: BinaryIO, layout: Layout, head: Head) -> None:
        """Begin a file; see ``AnimationWriter``."""
        self._stream, self._options = stream, head.options
        self._metadata = metadata = head.metadata
        self._ticks = Ticks(_PER_SECOND)
        flags = _ANIMATED | (_HAS_ALPHA if layout.channels == 4 else 0)
        for flag, block in ((_HAS_PROFILE, metadata.icc_profile), (_HAS_EXIF, metadata.exif), (_HAS_XMP, metadata.xmp)):
            flags |= flag if block else 0
        stream.write(b"RIFF\0\0\0\0WEBP")
        self._chunk(b"VP8X", struct.pack("<I", flags) + _three(layout.width - 1) + _three(layout.height - 1))
        if metadata.icc_profile:
            self._chunk(b"ICCP", metadata.icc_profile)
        self._chunk(b"ANIM", struct.pack("<IH", 0, head.plays if head.plays <= _MOST_PLAYS else 0))

    def add(self, patch: NDArray[Any], x: int, y: int, duration: Fraction) -> None:
        """Append a part; see ``AnimationWriter``."""
        height, width = patch.shape[:2]
        still = io.BytesIO()
        Image.fromarray(patch).save(still, "WEBP", **self._options)
        place = b"".join(map(_three, (x // 2, y // 2, width - 1, height - 1, self._ticks.of(duration))))
        content = still.getvalue()
        found = [(kind, content[at : at + length]) for kind, at, length in _chunks(still) if kind in _PIXELS]
        pixels = b"".join(_padded(kind, data) for kind, data in found)
        self._chunk(_FRAME, place + bytes([_NOT_BLENDED]) + pixels)

    def finish(self) -> None:
        """Write the metadata that stands at the end, and the length of all.

        Raises:
            OutputError: that is more than a WebP can be.
        """
        if self._metadata.exif:
            self._chunk(b"EXIF", self._metadata.exif)
        if self._metadata.xmp:
            self._chunk(b"XMP ", self._metadata.xmp)
        end = self._stream.tell()
        self._stream.seek(4)
        self._stream.write(struct.pack("<I", end - _HEAD.size))

    def _chunk(self, kind: bytes, data: bytes) -> None:
        chunk = _padded(kind, data)
        if self._stream.tell() + len(chunk) > _MOST_BYTES:
            raise OutputError("a WebP cannot be larger than 4 GiB.", "Write a .png, or a video.")
        self._stream.write(chunk)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _padded(kind: bytes, data: bytes) -> bytes:
    return _HEAD.pack(kind, len(data)) + data + bytes(len(data) % 2)


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, place and length of the chunks of a WebP; the last may be longer than the file."""
    position = _RIFF_HEAD_BYTES
    while True:
        stream.seek(position)
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        kind, length = _HEAD.unpack(head)
        yield kind, position + _HEAD.size, length
        position += _HEAD.size + length + length % 2
