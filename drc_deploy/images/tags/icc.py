"""Writes a colour profile for colours that are known by primaries, white and a curve (ICC.1:2022, version 4.3).

LittleCMS can make such profiles, but Pillow offers only sRGB and LAB of it.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Chromaticity = tuple[float, float]
"""x and y of CIE 1931."""

_D50 = (0.9642, 1.0, 0.8249)
"""White of the profile connection space (ICC.1, 7.2.16)."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""XYZ to the responses of cones (ICC.1, annex E)."""
_VERSION, _DISPLAY, _YEAR = 0x04300000, b"mntr", 2000
_HEADER_BYTES, _TAG_BYTES = 128, 12


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """Colours of three primaries."""

    white: Chromaticity
    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    curve: tuple[float, ...]
    """From a sample in [0, 1] to light: an exponent g alone, or g, a, b, c, d for (a x + b)^g from d on, c x below."""


def profile_of(space: ColourSpace, *, grey: bool) -> bytes:
    """Return the profile of RGB samples, or of grey ones, whose white and curve are those of ``space``."""
    adaptation = _adaptation(space.white)
    curve = _curve(space.curve)
    tags = {
        b"desc": _text(b"Colours of a PNG"),
        b"cprt": _text(b"No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(adaptation.flat),
    }
    if grey:
        return _profile(b"GRAY", {**tags, b"kTRC": curve})
    columns = adaptation @ _rgb_to_xyz(space)
    tags |= {tag: _xyz(column) for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)}
    return _profile(b"RGB ", {**tags, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def _rgb_to_xyz(space: ColourSpace) -> NDArray[np.float64]:
    """Return the matrix that makes XYZ of light in [0, 1]; its columns add up to the white.

    Raises:
        numpy.linalg.LinAlgError: the primaries lie on one line.
    """
    primaries = np.column_stack([_light(corner) for corner in (space.red, space.green, space.blue)])
    return np.asarray(primaries * np.linalg.solve(primaries, _light(space.white)))


def _adaptation(white: Chromaticity) -> NDArray[np.float64]:
    """Return Bradford's matrix from ``white`` to D50."""
    gain = (_BRADFORD @ _D50) / (_BRADFORD @ _light(white))
    return np.linalg.solve(_BRADFORD, gain[:, None] * _BRADFORD)


def _light(corner: Chromaticity) -> NDArray[np.float64]:
    x, y = corner
    return np.array([x / y, 1, (1 - x - y) / y])


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Assemble head, table and elements; equal elements are stored once."""
    table, body = b"", b""
    start = _HEADER_BYTES + 4 + _TAG_BYTES * len(tags)
    places: dict[bytes, int] = {}
    for tag, element in tags.items():
        if element not in places:
            places[element] = start + len(body)
            body += element + bytes(-len(element) % 4)
        table += struct.pack(">4sII", tag, places[element], len(element))
    kind, date = (_DISPLAY, space, b"XYZ "), (_YEAR, 1, 1, 0, 0, 0)
    head = struct.pack(">I4xI4s4s4s6H4s", start + len(body), _VERSION, *kind, *date, b"acsp")
    head = head.ljust(68, b"\0") + _fixed(_D50)
    return head.ljust(_HEADER_BYTES, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _curve(parameters: tuple[float, ...]) -> bytes:
    kind = 0 if len(parameters) == 1 else 3
    return struct.pack(">4s4xH2x", b"para", kind) + _fixed(parameters)


def _text(text: bytes) -> bytes:
    """Return text in one language."""
    letters = text.decode("ascii").encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(letters), 28) + letters


def _fixed(values: Iterable[float]) -> bytes:
    """Return numbers as s15Fixed16."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
