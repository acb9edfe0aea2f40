"""Animated PNG (PNG specification, third edition, section 11.3.6)."""

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from numpy.typing import NDArray

from drc_deploy.images.animation.parts import AnimationWriter, Disposal, Head, Part, PartsFile
from drc_deploy.images.png_stream import Layout, PngStream

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_CRC_BYTES, _NUMBER_BYTES = 4, 4
_CONTROL = struct.Struct(">IIIIIHHBB")
"""Sequence number, width, height, x, y, delay, its denominator, disposal, blending."""
_DISPOSALS = {1: Disposal.CLEAR, 2: Disposal.RESTORE}
_OVER, _KEEP, _SOURCE = 1, 0, 0
_USUAL_DENOMINATOR = 100
"""Of a delay that has none."""
_MOST = 0xFFFF
_COLOUR_CHUNKS = (b"PLTE", b"tRNS")


class _Chunk(NamedTuple):
    """Where a chunk's data lies."""

    kind: bytes
    offset: int
    length: int


def says_animated(stream: BinaryIO) -> bool:
    """Return whether a PNG says that it has more than one frame."""
    for chunk in _chunks(stream):
        if chunk.kind == b"acTL":
            return int.from_bytes(stream.read(4), "big") > 1
        if chunk.kind == b"IDAT":
            break
    return False


def read_apng(stream: BinaryIO) -> PartsFile:
    """Find the parts of an APNG without decoding them. A default image that is no part of it is left out.

    Raises:
        ValueError: it is damaged; the frames before are not known then.
    """
    reader = _Reader(stream)
    for chunk in _chunks(stream):
        reader.take(chunk)
    return PartsFile(reader.parts(), reader.plays)


def _chunks(stream: BinaryIO) -> Iterator[_Chunk]:
    """Yield the chunks, with the stream at the data of each, as far as they go."""
    position, end = len(_SIGNATURE), stream.seek(0, io.SEEK_END)
    while position + _HEAD.size <= end:
        stream.seek(position)
        length, kind = _HEAD.unpack(stream.read(_HEAD.size))
        yield _Chunk(kind, position + _HEAD.size, min(length, end - stream.tell()))
        position += _HEAD.size + length + _CRC_BYTES


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._header = b""
        self._colours: list[_Chunk] = []
        self._frames: list[tuple[tuple[int, ...], list[_Chunk]]] = []
        """Control of each, and its data."""
        self.count = self.plays = 0

    def take(self, chunk: _Chunk) -> None:
        """Take note of a chunk, at whose data the stream is."""
        if chunk.kind == b"IHDR":
            self._header = self._stream.read(13)
        elif chunk.kind == b"acTL":
            self.count, self.plays = struct.unpack(">II", self._stream.read(8))
        elif chunk.kind == b"fcTL":
            control = self._stream.read(_CONTROL.size)
            if len(control) == _CONTROL.size:  # else the file ends here
                self._frames.append((_CONTROL.unpack(control), []))
        elif chunk.kind in _COLOUR_CHUNKS and not self._frames_have_data:
            self._colours.append(chunk)
        elif chunk.kind == b"IDAT" and self._frames:
            self._frames[-1][1].append(chunk)
        elif chunk.kind == b"fdAT" and self._frames and chunk.length > _NUMBER_BYTES:
            data = _Chunk(b"IDAT", chunk.offset + _NUMBER_BYTES, chunk.length - _NUMBER_BYTES)
            self._frames[-1][1].append(data)

    @property
    def _frames_have_data(self) -> bool:
        return bool(self._frames and self._frames[0][1])

    def parts(self) -> list[Part]:
        """Return the parts of all chunks that were taken, and a damaged one for those that are missing."""
        parts = [self._part(control, data) for control, data in self._frames]
        missing = range(len(parts), min(self.count, len(parts) + 1))
        return parts + [self._part((0, 1, 1, 0, 0, 0, 1, 0, 0), []) for _ in missing]

    def _part(self, control: tuple[int, ...], data: list[_Chunk]) -> Part:
        _, width, height, x, y, delay, denominator, disposal, blending = control
        return Part(
            *(x, y, width, height),
            duration=Fraction(delay, denominator or _USUAL_DENOMINATOR),
            disposal=_DISPOSALS.get(disposal, Disposal.KEEP),
            over=blending == _OVER,
            still=partial(self._still, (x, y, width, height), data),
        )

    def _still(self, place: tuple[int, int, int, int], data: list[_Chunk]) -> bytes:
        """Return a PNG of one part.

        Raises:
            ValueError: it lies outside of the canvas.
        """
        x, y, width, height = place
        canvas_width, canvas_height = struct.unpack_from(">II", self._header)
        if x + width > canvas_width or y + height > canvas_height:
            raise ValueError("it lies outside of the image")
        pixels = b"".join(map(self._data, data))
        return b"".join(
            (
                _SIGNATURE,
                _chunk(b"IHDR", struct.pack(">II", width, height) + self._header[8:]),
                *(_chunk(colour.kind, self._data(colour)) for colour in self._colours),
                _chunk(b"IDAT", pixels),
                _chunk(b"IEND", b""),
            )
        )

    def _data(self, chunk: _Chunk) -> bytes:
        self._stream.seek(chunk.offset)
        return self._stream.read(chunk.length)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return _HEAD.pack(len(data), kind) + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


class ApngWriter(AnimationWriter):
    """Writes an APNG, each part in the place of what was there."""

    longest = Fraction(_MOST)

    def __init__(self, stream: BinaryIO, layout: Layout, head: Head) -> None:
        """Begin a file; its layout is that of the first part."""
        self._stream, self._metadata = stream, head.metadata
        self._animation = struct.pack(">II", head.frame_count, head.plays if head.plays < 1 << 31 else 0)
        self._numbered = self._added = 0
        stream.write(_SIGNATURE)

    def add(self, patch: NDArray[Any], x: int, y: int, duration: Fraction) -> None:
        """Append a part; see ``AnimationWriter``."""
        height, width = patch.shape[:2]
        control = _CONTROL.pack(self._number(), width, height, x, y, *_delay(duration), _KEEP, _SOURCE)
        before = [(b"fcTL", control)] if self._added else [(b"acTL", self._animation), (b"fcTL", control)]
        for kind, data in self._still(patch):
            if kind == b"IDAT":
                self._write(*before, self._pixels(data))
                before = []
            elif not self._added and kind != b"IEND":
                self._write((kind, data))
        self._added += 1

    def finish(self) -> None:
        """Write the end mark."""
        self._write((b"IEND", b""))

    def _pixels(self, data: bytes) -> tuple[bytes, bytes]:
        if not self._added:
            return b"IDAT", data
        return b"fdAT", struct.pack(">I", self._number()) + data

    def _write(self, *chunks: tuple[bytes, bytes]) -> None:
        for kind, data in chunks:
            self._stream.write(_chunk(kind, data))

    def _still(self, patch: NDArray[Any]) -> Iterator[tuple[bytes, bytes]]:
        """Yield kind and data of the chunks of a PNG of the patch; only that of the first one has the metadata."""
        whole = io.BytesIO()
        png = PngStream(whole, Layout.of(patch), None if self._added else self._metadata)
        png.write(patch)
        png.finish()
        for chunk in _chunks(whole):
            yield chunk.kind, whole.read(chunk.length)

    def _number(self) -> int:
        self._numbered += 1
        return self._numbered - 1


def _delay(duration: Fraction) -> tuple[int, int]:
    """Return a delay and its denominator, as exact as a file holds it."""
    for per_second in (duration.denominator, 1000, 100, 10, 1):
        count = round(duration * per_second)
        if count <= _MOST and per_second <= _MOST:
            return count, per_second
    raise ValueError(f"{duration} s is longer than a PNG holds")
