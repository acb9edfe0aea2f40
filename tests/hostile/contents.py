"""What lies in a folder, so that two runs can be compared."""

import hashlib
from pathlib import Path

from safetensors.numpy import load_file


def content_of(place: Path) -> dict[str, str]:
    """Return the SHA-256 of every file; of a checkpoint, that of its weights, as it says how long they took."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(_bytes(path)).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a relative path is of one of the patterns."""
    return any(Path(name).match(pattern) for pattern in patterns)


def _bytes(path: Path) -> bytes:
    if path.suffix != ".safetensors":
        return path.read_bytes()
    return b"".join(name.encode() + tensor.tobytes() for name, tensor in sorted(load_file(path).items()))
