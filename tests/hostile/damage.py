"""Ways to damage a file, each a pure function of its bytes and of a seeded generator."""

import random
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Final

from tests.hostile.structures import damage_json, damage_png, damage_safetensors, damage_toml, damage_zip

Damage = Callable[[bytes, random.Random], bytes]

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEAD_BYTES = 512


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Return the data with one to fifty bits flipped."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 5, 50))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Return the data without its end."""
    return data[: rng.randrange(len(data))]


def zero(data: bytes, rng: random.Random) -> bytes:
    """Return the data with zeros in the place of a part."""
    start, length = rng.randrange(len(data)), rng.choice((4, 64, 512, 4096))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def remove(data: bytes, rng: random.Random) -> bytes:
    """Return the data without a part in the middle."""
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 2, 16, 256)) :]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Return the data with noise put in."""
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 8, 64))) + data[start:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Return the data with a part in two places."""
    start, length = rng.randrange(len(data)), rng.choice((8, 64, 512))
    return data[: start + length] + data[start:]


def set_number(data: bytes, rng: random.Random) -> bytes:
    """Return the data with a number at the head that is as small or as large as it can be."""
    size, order = rng.choice((1, 2, 4)), rng.choice(("little", "big"))
    number = rng.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    start = rng.randrange(max(min(len(data), _HEAD_BYTES) - size, 1))
    return data[:start] + number.to_bytes(size, order) + data[start + size :]  # type: ignore[arg-type]


BLIND: Final[Mapping[str, Damage]] = {
    function.__name__: function for function in (flip_bits, cut, zero, remove, insert, repeat, set_number)
}
"""Know nothing of the file."""
AWARE: Final[Mapping[str, Mapping[str, Damage]]] = {
    ".json": {"json": damage_json},
    ".jsonl": {"json": damage_json},
    ".toml": {"toml": damage_toml},
    ".npz": {"zip": damage_zip},
    ".pt": {"zip": damage_zip},
    ".png": {"png": damage_png},
    ".safetensors": {"safetensors": damage_safetensors},
}
"""Leave a file of a format one of that format, by its suffix."""


def choose(file: str, rng: random.Random) -> str:
    """Return the names of ways to damage a file: one, two of those that know nothing, or one that knows its format."""
    aware = AWARE.get(PurePath(file).suffix, {})
    if aware and rng.random() < 0.5:
        return rng.choice(tuple(aware))
    return "+".join(rng.choice(tuple(BLIND)) for _ in range(1 + (rng.random() < 0.25)))


def damage(data: bytes, how: str, seed: int) -> bytes:
    """Return the data damaged in the ways that ``choose`` has named, as ``seed`` decides."""
    rng = random.Random(seed)
    known = {**BLIND, **{name: each for ways in AWARE.values() for name, each in ways.items()}}
    for name in how.split("+"):
        if data:
            changed = known[name](data, rng)
            data = changed if changed != data else flip_bits(data, rng)
    return data
