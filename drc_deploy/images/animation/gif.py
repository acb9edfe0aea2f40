"""GIF animations (GIF89a specification; the number of loops as Netscape 2.0 added it)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

from numpy.typing import NDArray
from PIL import GifImagePlugin

from drc_deploy.images.animation.palette import with_palette
from drc_deploy.images.animation.parts import AnimationWriter, Disposal, Head, Part, PartsFile
from drc_deploy.images.animation.ticks import Ticks
from drc_deploy.images.png_stream import Layout

_SCREEN = struct.Struct("<6sHHBBB")
_PLACE = struct.Struct("<HHHHB")
_CONTROL = struct.Struct("<BHB")
_HAS_TABLE, _INTERLACED, _HAS_TRANSPARENT = 0x80, 0x40, 0x01
_IMAGE, _EXTENSION, _PADDING = b",", b"!", b"\0"
_CONTROL_LABEL, _APPLICATION_LABEL, _COMMENT_LABEL = b"\xf9", b"\xff", b"\xfe"
_MOST_BLOCK = 255
_LOOPING = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_DISPOSALS = {2: Disposal.CLEAR, 3: Disposal.RESTORE}
_KEEP, _CLEAR = 1, 2
_PER_SECOND = 100
_LEAST_TICKS = 2
"""Of a part that its source shows for more than one: browsers show it ten times as long where it has one."""
_MOST_LOOPS = 0xFFFF


@dataclass(slots=True)
class _Control:
    """What is said of the next part."""

    flags: int = 0
    ticks: int = 0
    transparent: int = 0


@dataclass(frozen=True, slots=True)
class _Table:
    """Where a table of colours lies."""

    offset: int
    size_bits: int
    """Less one; it has 2^(size_bits + 1) colours."""

    @property
    def length(self) -> int:
        return 6 << self.size_bits


def read_gif(stream: BinaryIO, most: int | None = None) -> PartsFile:
    """Find the parts of a GIF, at ``most`` so many, without decoding them; one that is cut off ends where it is."""
    reader = _Reader(stream)
    parts = list(islice(reader.parts(), most))
    return PartsFile(parts, reader.plays)


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.plays = 1

    def parts(self) -> Iterator[Part]:
        self._stream.seek(0)
        *_, flags, _, _ = _SCREEN.unpack(self._stream.read(_SCREEN.size))
        shared = self._table(flags)
        control = _Control()
        while kind := self._stream.read(1):
            if kind == _EXTENSION:
                control = self._extension(control)
            elif kind == _IMAGE:
                head = self._stream.read(_PLACE.size)
                if len(head) < _PLACE.size:
                    return
                yield self._part(head, shared, control)
                control = _Control()
            elif kind != _PADDING:
                return

    def _table(self, flags: int) -> _Table | None:
        if not flags & _HAS_TABLE:
            return None
        table = _Table(self._stream.tell(), flags & 7)
        self._stream.seek(table.length, 1)
        return table

    def _extension(self, control: _Control) -> _Control:
        label, first = self._stream.read(1), self._block()
        if label == _CONTROL_LABEL and len(first) >= _CONTROL.size:
            control = _Control(*_CONTROL.unpack_from(first))
        if label == _APPLICATION_LABEL and first in _LOOPING:
            first = self._block()
            if len(first) >= 3 and first[0] & 7 == 1:
                loops = int.from_bytes(first[1:3], "little")
                self.plays = loops + 1 if loops else 0
        if first:
            self._skip_blocks()
        return control

    def _part(self, head: bytes, shared: _Table | None, control: _Control) -> Part:
        x, y, width, height, flags = _PLACE.unpack(head)
        table = self._table(flags) or shared
        offset = self._stream.tell()
        self._stream.seek(1, 1)
        self._skip_blocks()
        length = self._stream.tell() - offset
        still = partial(self._still, (width, height, flags & _INTERLACED), table, control, (offset, length))
        disposal = _DISPOSALS.get(control.flags >> 2 & 7, Disposal.KEEP)
        duration = Fraction(control.ticks, _PER_SECOND)
        return Part(x, y, width, height, duration, disposal, over=True, still=still)

    def _still(
        self, form: tuple[int, int, int], table: _Table | None, control: _Control, data: tuple[int, int]
    ) -> bytes:
        width, height, interlaced = form
        flags = 0 if table is None else _HAS_TABLE | table.size_bits
        colours = b"" if table is None else self._read(table.offset, table.length)
        shown = _CONTROL.pack(control.flags & _HAS_TRANSPARENT, 0, control.transparent)
        return b"".join(
            (
                _SCREEN.pack(b"GIF89a", width, height, flags, 0, 0),
                colours,
                _EXTENSION + _CONTROL_LABEL + bytes([len(shown)]) + shown + b"\0",
                _IMAGE + _PLACE.pack(0, 0, width, height, interlaced),
                self._read(*data),
                b"\0;",
            )
        )

    def _read(self, offset: int, length: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(length)

    def _block(self) -> bytes:
        return self._stream.read((self._stream.read(1) or b"\0")[0])

    def _skip_blocks(self) -> None:
        while (size := self._stream.read(1)) > _PADDING:
            self._stream.seek(size[0], 1)


class GifWriter(AnimationWriter):
    """Writes a GIF. Where pictures have transparency each part is a whole one, and is cleared."""

    longest = Fraction(0xFFFF, _PER_SECOND)

    def __init__(self, stream: BinaryIO, layout: Layout, head: Head) -> None:
        """Begin a file; see ``AnimationWriter``."""
        self._stream, self.whole = stream, layout.channels == 4
        self._ticks = Ticks(_PER_SECOND)
        stream.write(_SCREEN.pack(b"GIF89a", layout.width, layout.height, 0, 0, 0))
        if head.plays != 1:
            loops = head.plays - 1 if 0 < head.plays <= _MOST_LOOPS else 0
            self._extension(_APPLICATION_LABEL, _LOOPING[0], struct.pack("<BH", 1, loops))

        if comment := head.metadata.comment:
            blocks = range(0, len(comment), _MOST_BLOCK)
            self._extension(_COMMENT_LABEL, *(comment[start : start + _MOST_BLOCK] for start in blocks))

    def add(self, patch: NDArray[Any], x: int, y: int, duration: Fraction) -> None:
        """Append a part in at most 256 colours; see ``AnimationWriter``."""
        image, transparent = with_palette(patch)
        ticks = self._ticks.of(duration, least=_LEAST_TICKS if duration * _PER_SECOND > 1 else 0)
        how: dict[str, Any] = {} if transparent is None else {"transparency": transparent}
        how |= {"duration": ticks * 10, "disposal": _CLEAR if self.whole else _KEEP, "include_color_table": True}
        for data in GifImagePlugin.getdata(image, (x, y), **how):
            self._stream.write(data)

    def finish(self) -> None:
        """Write the end mark."""
        self._stream.write(b";")

    def _extension(self, label: bytes, *blocks: bytes) -> None:
        self._stream.write(_EXTENSION + label)
        for block in blocks:
            self._stream.write(bytes([len(block)]) + block)
        self._stream.write(b"\0")
