"""Colours that a PNG describes in chunks of its own, and colour profiles that say the same to other formats.

By the PNG specification, third edition (section 4.3), cICP counts before iCCP, that before sRGB, and that before gAMA
with cHRM. Into another PNG they go as they are. Their numbers are those of ITU-T H.273.
"""

import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from drc_deploy.images.tags.icc import Chromaticity, ColourSpace, profile_of
from drc_deploy.images.tags.png_chunks import Chunk, read_chunks

_BYTES = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"mDCV": 24, b"cLLI": 8}
"""The chunks in the order in which a PNG gets them; those after cHRM are for screens that show high dynamic range."""
_UNIT = 100000
"""Of gAMA and cHRM."""
_Corners = tuple[Chromaticity, Chromaticity, Chromaticity, Chromaticity]
"""White, red, green and blue."""
_D65, _DCI = (0.3127, 0.329), (0.314, 0.351)
_BT709 = (_D65, (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
_PRIMARIES: dict[int, _Corners] = {
    1: _BT709,
    2: _BT709,  # unspecified
    5: (_D65, (0.64, 0.33), (0.29, 0.6), (0.15, 0.06)),
    6: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: (_D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    11: (_DCI, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: (_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
_SRGB: tuple[float, ...] = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CAMERA = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), _CAMERA),
    **dict.fromkeys((2, 13), _SRGB),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_PLAIN_GAMMA = 2.2
"""What a gAMA chunk says of sRGB, whose curve it cannot say."""
_NEAR = 0.002


class NoProfileError(ValueError):
    """Colours that no profile of primaries and a curve describes; the message names them."""


def read_colour(stream: BinaryIO) -> tuple[Chunk, ...]:
    """Return the chunks of a PNG that describe colours, one of each kind, without those that are damaged."""
    chunks = {chunk.kind: chunk for chunk in reversed(read_chunks(stream, tuple(_BYTES))) if _is_whole(chunk)}
    return tuple(chunks[kind] for kind in _BYTES if kind in chunks)


def coded_colour(primaries: int, transfer: int) -> tuple[Chunk, ...]:
    """Return the colours that an AVIF or a HEIC codes, as the chunk that says so in a PNG; nothing where it is sRGB.

    BT.709 with its own curve or none is shown as sRGB everywhere.
    """
    plain = primaries in (1, 2) and transfer in (1, 2, 6, 13, 14, 15)
    return () if plain else (Chunk(b"cICP", bytes((primaries & 255, transfer & 255, 0, 1))),)


def _is_whole(chunk: Chunk) -> bool:
    return len(chunk.data) == _BYTES[chunk.kind] and not (chunk.kind == b"gAMA" and not any(chunk.data))


def high_dynamic_range(chunks: Sequence[Chunk]) -> str | None:
    """Return the name of the curve of high dynamic range that an image has; None for all others."""
    cicp = dict(chunks).get(b"cICP")
    return HDR_TRANSFERS.get(cicp[1]) if cicp else None


def profile_for(chunks: Sequence[Chunk], *, grey: bool) -> bytes | None:
    """Return a colour profile that says what the chunks say; None where that is sRGB.

    Raises:
        NoProfileError: no such profile can.
    """
    space = _space(dict(chunks))
    if space is None:
        return None
    try:
        return profile_of(space, grey=grey)
    except (ArithmeticError, np.linalg.LinAlgError, struct.error) as error:
        raise NoProfileError("primaries that no colours have") from error


def _space(chunks: dict[bytes, bytes]) -> ColourSpace | None:
    if cicp := chunks.get(b"cICP"):
        return _unless_srgb(_coded(*cicp))
    if b"sRGB" in chunks:
        return None
    gamma, corners = chunks.get(b"gAMA"), chunks.get(b"cHRM")
    curve = (_UNIT / int.from_bytes(gamma, "big"),) if gamma else _SRGB
    return _unless_srgb(ColourSpace(*(_corners(corners) if corners else _BT709), curve))


def _coded(primaries: int, transfer: int, matrix: int, full_range: int) -> ColourSpace:
    if transfer in HDR_TRANSFERS:
        raise NoProfileError(f"high dynamic range, {HDR_TRANSFERS[transfer]}")
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix or full_range != 1:
        raise NoProfileError(f"cICP {primaries}/{transfer}/{matrix}/{full_range}")
    return ColourSpace(*_PRIMARIES[primaries], _CURVES[transfer])


def _corners(data: bytes) -> _Corners:
    white_x, white_y, red_x, red_y, green_x, green_y, blue_x, blue_y = (n / _UNIT for n in struct.unpack(">8I", data))
    return (white_x, white_y), (red_x, red_y), (green_x, green_y), (blue_x, blue_y)


def _unless_srgb(space: ColourSpace) -> ColourSpace | None:
    found = (space.white, space.red, space.green, space.blue)
    near = np.allclose(found, _BT709, rtol=0, atol=_NEAR)
    plain = space.curve == _SRGB or (len(space.curve) == 1 and abs(space.curve[0] - _PLAIN_GAMMA) < _NEAR)
    return None if near and plain else space
