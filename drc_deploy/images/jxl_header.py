"""Size and samples of a JPEG XL from its head (ISO 18181-1, annex D); Pillow's plugin decodes the file to know them."""

from typing import NamedTuple

from drc_deploy.images.boxes import boxes

_CODESTREAM = b"\xff\x0a"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIDE_BITS = (9, 13, 18, 30)
_PART_NUMBER_BYTES = 4
_HEAD_BYTES = 64
_PLAIN_BITS = 8


class JpegXl(NamedTuple):
    """What the head says."""

    width: int
    height: int
    bits: int | None
    """Of a sample; None where it is not known: behind a preview or an animation."""
    floating: bool
    xmp: bytes | None


class _Bits:
    """Reads numbers whose lowest bit comes first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("its head ends early")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken


def read_jpeg_xl(content: bytes) -> JpegXl:
    """Read the head of a JPEG XL, a bare codestream or one in boxes.

    Raises:
        ValueError: it ends early or is none.
    """
    stream = content[: 2 * _HEAD_BYTES]
    xmp = None
    if not content.startswith(_CODESTREAM):
        found = dict(reversed([(box.kind, box.content) for box in boxes(content)]))
        xmp = found.get(b"xml ")
        stream = found.get(b"jxlc") or found.get(b"jxlp", b"")[_PART_NUMBER_BYTES:]
    if not stream.startswith(_CODESTREAM):
        raise ValueError("it holds no codestream")
    bits = _Bits(stream[len(_CODESTREAM) : _HEAD_BYTES])
    width, height = _size(bits)
    return JpegXl(width, height, *_depth(bits), xmp)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.take(_SIDE_BITS[bits.take(2)]) + 1

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return side(), height
    over, under = _RATIOS[ratio]
    return height * over // under, height


def _depth(bits: _Bits) -> tuple[int | None, bool]:
    """Return the bits of a sample, and whether it is a floating-point number."""
    if bits.take(1):  # all as by default
        return _PLAIN_BITS, False
    if bits.take(1):  # more fields
        bits.take(3)  # the orientation, which the decoder applies
        if bits.take(1):
            _size(bits)  # as it is meant to be shown
        if bits.take(1) or bits.take(1):
            return None, False
    floating = bool(bits.take(1))
    choices = (32, 16, 24) if floating else (8, 10, 12)
    choice = bits.take(2)
    return (choices[choice] if choice < len(choices) else bits.take(6) + 1), floating
