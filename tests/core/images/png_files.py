"""PNG files with chunks that Pillow does not write, and their chunks read back."""

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEAD_BYTES = 33
"""Signature and IHDR."""
GREY = np.full((4, 5, 3), 128, np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(path: Path, chunks: Iterable[tuple[bytes, bytes]], pixels: NDArray[Any] = GREY, **options: Any) -> Path:
    """Write a PNG that has ``chunks`` behind its head."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    content = buffer.getvalue()
    path.write_bytes(content[:HEAD_BYTES] + b"".join(chunk(*one) for one in chunks) + content[HEAD_BYTES:])
    return path


def chunks_of(path: Path) -> list[tuple[bytes, bytes]]:
    content, found, position = path.read_bytes(), [], 8
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        found.append((kind, content[position + 8 : position + 8 + length]))
        position += length + 12
    return found
