"""Writes a PNG row by row, so that an image larger than memory can be written."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from drc_deploy.images.deflate import deflate
from drc_deploy.images.metadata import Metadata
from drc_deploy.images.tags.iptc import resource_block
from drc_deploy.images.tags.png_chunks import Chunk, raw_profile_chunk, xmp_chunk

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> colour type (PNG specification, table 11.1)."""
_FILTER_UP = 2
_METRES_PER_INCH = 0.0254
_PER_METRE = 1
_FAST = 1
"""Level of compression: with the Up filter as small as OpenCV's default."""

_PIECE_BYTES = 1 << 18
"""So much is filtered and compressed at a time: it stays in the processor's cache, and strips may be large."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Size and type of an image that is still being made."""

    height: int
    width: int
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    bits: int
    """8 or 16 a sample."""

    @classmethod
    def of(cls, pixels: NDArray[Any], scale: int = 1) -> "Layout":
        """Describe an array of (H, W) or (H, W, channels) after enlarging it ``scale`` times."""
        height, width = pixels.shape[:2]
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        return cls(height * scale, width * scale, channels, pixels.dtype.itemsize * 8)


def _texts(metadata: Metadata) -> Iterator[Chunk]:
    if metadata.xmp:
        yield xmp_chunk(metadata.xmp)
    if metadata.iptc:
        yield raw_profile_chunk("iptc", resource_block(metadata.iptc))
    yield from metadata.texts


class PngStream:
    """A PNG that grows by ``write`` and is complete after ``finish``."""

    def __init__(self, stream: BinaryIO, layout: Layout, metadata: Metadata | None = None) -> None:
        self._stream, self._layout = stream, layout
        self._compressor = deflate.compressobj(_FAST, zlib.DEFLATED, zlib.MAX_WBITS, 9)
        self._above = np.zeros(layout.width * layout.channels * layout.bits // 8, np.uint8)
        self._piece_rows = self._missing = max(_PIECE_BYTES // len(self._above), 1)
        self._waiting: list[NDArray[Any]] = []
        self._rows_written = 0
        stream.write(_SIGNATURE)
        self._chunk(
            b"IHDR",
            struct.pack(">IIBBBBB", layout.width, layout.height, layout.bits, _COLOUR_TYPES[layout.channels], 0, 0, 0),
        )
        self._metadata(metadata or Metadata())

    def write(self, rows: NDArray[Any]) -> None:
        """Append (rows, W) or (rows, W, channels) of the layout's type.

        What the compressor makes depends on the pieces that it is given. So these are the same for all strips.
        """
        while len(rows):
            taken, rows = rows[: self._missing], rows[self._missing :]
            self._waiting.append(taken)
            self._missing -= len(taken)
            if not self._missing:
                self._write_waiting()
        self._waiting[-1:] = [piece.copy() for piece in self._waiting[-1:]]  # the memory of strips is used again

    def _write_waiting(self) -> None:
        if self._waiting:
            self._write_piece(self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting))
        self._waiting, self._missing = [], self._piece_rows

    def _write_piece(self, rows: NDArray[Any]) -> None:
        # The samples of a PNG are big-endian; the Up filter works on bytes.
        samples = np.ascontiguousarray(rows).astype(rows.dtype.newbyteorder(">"), copy=False)
        lines = samples.reshape(len(rows), -1).view(np.uint8)
        filtered = np.empty((len(lines), lines.shape[1] + 1), np.uint8)
        filtered[:, 0] = _FILTER_UP
        np.subtract(lines[:1], self._above, out=filtered[:1, 1:])
        np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
        self._above = lines[-1].copy()
        self._rows_written += len(rows)
        self._image_data(self._compressor.compress(filtered.data))

    def finish(self) -> None:
        """Write what the compressor still holds and the end mark.

        Raises:
            ValueError: more or fewer rows were written than the layout has.
        """
        self._write_waiting()
        if self._rows_written != self._layout.height:
            raise ValueError(f"{self._rows_written} rows were written of {self._layout.height}")
        self._image_data(self._compressor.flush())
        self._chunk(b"IEND", b"")

    def _metadata(self, metadata: Metadata) -> None:
        colour = dict(metadata.colour)
        if metadata.icc_profile:  # next to which no sRGB may stand
            colour.pop(b"sRGB", None)
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile))
        for kind, data in colour.items():
            self._chunk(kind, data)
        if metadata.dpi:
            per_metre = (min(round(dpi / _METRES_PER_INCH), 2**31 - 1) for dpi in metadata.dpi)
            self._chunk(b"pHYs", struct.pack(">IIB", *per_metre, _PER_METRE))
        if metadata.exif:
            self._chunk(b"eXIf", metadata.exif)
        for kind, data in _texts(metadata):
            self._chunk(kind, data)

    def _image_data(self, data: bytes) -> None:
        if data:
            self._chunk(b"IDAT", data)

    def _chunk(self, kind: bytes, data: bytes) -> None:
        self._stream.write(struct.pack(">I", len(data)) + kind)
        self._stream.write(data)
        self._stream.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
