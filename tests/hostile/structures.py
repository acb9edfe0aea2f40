"""Damage that knows the format of a file: it stays a JSON, a TOML, a zip, and says what it should not."""

import hashlib
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

_MARK = "a place that is written over"
_DEEP, _JUST_READ = 100_000, 900
"""Levels of lists: more than Python's reader of JSON takes, and so many that only what comes after it may fail."""
_VALUES = (
    *("null", "true", "0", "-1", "1.5", "1e400", "-1e400", "1e-400", "NaN", "-Infinity"),
    *("9223372036854775808", "-9223372036854775809", "9" * 400, "9" * 5000, "2147483648", "1e308"),
    *('""', '"x"', '"\\u0000"', '"\\ud800"', '"\\u202e\\u2066"', '"\\u001b[2J"', '"../../x"', f'"{"ü" * 5000}"'),
    *("[]", "{}", "[[]]", '{"x": 1}', '[null, 1, "x"]'),
    "[" * _DEEP + "]" * _DEEP,
    '{"x":' * _DEEP + "1" + "}" * _DEEP,
    "[" * _JUST_READ + "]" * _JUST_READ,
)
"""As JSON texts: what a reader may meet in the place of anything else."""
_SEAL = re.compile(rb"\n[0-9a-f]{64}\n\Z")


def damage_json(data: bytes, rng: random.Random) -> bytes:
    """Return JSON, one line of several, or a sealed one, with a value changed, removed, added or there twice."""
    sealed = _SEAL.search(data)
    if sealed:
        content = _changed_json(data[: sealed.start()].decode(), rng).encode()
        return content + f"\n{hashlib.sha256(content).hexdigest()}\n".encode()
    try:
        return _changed_json(data.decode(), rng).encode()
    except ValueError:
        lines = data.decode().splitlines()
        index = rng.choice([index for index, line in enumerate(lines) if line[:1] == "{"])
        lines[index] = _changed_json(lines[index], rng)
        return "\n".join(lines).encode() + b"\n"


def _changed_json(text: str, rng: random.Random) -> str:
    """Return the text of a JSON value with a change in it.

    Raises:
        ValueError: it is none.
    """
    value = json.loads(text)
    places = list(_places(value))
    if not places:
        return rng.choice(_VALUES)
    container, key = rng.choice(places)
    before, other = json.dumps(container[key]), rng.choice(_VALUES)
    named = isinstance(container, dict)
    written = json.dumps(key) if named else ""
    kind = rng.choice(("other", "other", "other", "remove", "add", "twice"))
    if kind == "remove":
        del container[key]
        return json.dumps(value)
    container[key] = _MARK
    raw = {
        "other": other,
        "add": f'{before}, "unknown": {other}' if named else f"{before}, {other}",
        "twice": f"{before}, {written}: {other}" if named else f"{before}, {before}",
    }[kind]
    return json.dumps(value).replace(json.dumps(_MARK), raw)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield where each value in nested containers stands: its container, and its key or index."""
    if isinstance(value, dict | list):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(item)


def damage_toml(data: bytes, rng: random.Random) -> bytes:
    """Return TOML with a line that has another value, is missing, is there twice, or is of an unknown key."""
    lines = data.decode().splitlines()
    settings = [index for index, line in enumerate(lines) if re.match(r"[\w-]+ *= *\S", line)]
    index = rng.choice(settings)
    key = lines[index].partition("=")[0]
    # TOML has no null, and writes infinite numbers in another way; the rest is refused or means the same there.
    other = rng.choice((*_VALUES, "inf", "nan", "1979-05-27", "0x10", "'''\n'''", "{x = 1}"))
    lines[index] = rng.choice((f"{key}= {other}", "", f"{lines[index]}\n{lines[index]}", f"unknown = {other}"))
    return "\n".join(lines).encode() + b"\n"


def damage_zip(data: bytes, rng: random.Random) -> bytes:
    """Return an archive with right checksums and a member that is changed, gone, renamed, there twice, or packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(item.filename, archive.read(item)) for item in archive.infolist()]
    index = rng.randrange(len(members))
    name, content = members[index]
    kind = rng.choice(("changed", "changed", "changed", "gone", "renamed", "twice", "packed", "zeros"))
    other = rng.choice(("../x", "/x", "x", name.upper(), f"{name}\0", "")) if kind == "renamed" else name
    if kind == "changed" and content:
        damaged = bytearray(content)
        damaged[rng.randrange(min(len(damaged), 256))] ^= 1 << rng.randrange(8)
        content = bytes(damaged)
    if kind == "zeros":
        content = bytes(32 << 20)
    members[index : index + 1] = {"gone": [], "twice": [(name, content), (name, content[::-1])]}.get(
        kind, [(other, content)]
    )
    written = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if kind in {"packed", "zeros"} else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(written, "w", packing) as archive:
        warnings.simplefilter("ignore")  # that a name is there twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), content, packing)
    return written.getvalue()


def damage_png(data: bytes, rng: random.Random) -> bytes:
    """Return a PNG with right checksums and a chunk that is changed, gone, moved, or there twice."""
    chunks = list(_chunks(data))
    index = rng.randrange(len(chunks))
    kind, content = chunks[index]
    change = rng.choice(("changed", "changed", "gone", "moved", "twice", "cut"))
    if change == "changed" and content:
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        chunks[index] = kind, bytes(damaged)
    elif change == "cut":
        chunks[index] = kind, content[: rng.randrange(len(content) + 1)]
    elif change == "twice":
        chunks.insert(index, chunks[index])
    else:
        chunk = chunks.pop(index)
        if change == "moved":
            chunks.insert(rng.randrange(len(chunks) + 1), chunk)
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def damage_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file with a change in the JSON of its header, or in the JSON in its metadata."""
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].decode()
    header = json.loads(text)
    metadata = header.get("__metadata__", {})
    inside = [key for key, value in metadata.items() if value.startswith(("{", "["))]
    if inside and rng.random() < 0.7:
        key = rng.choice(inside)
        metadata[key] = _changed_json(metadata[key], rng)
        text = json.dumps(header)
    else:
        text = _changed_json(text, rng)
    content = text.encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content + data[8 + length :]
