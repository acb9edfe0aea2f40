"""Which program measures: equal versions of a checkout need not be equal programs."""

import hashlib
import importlib
from pathlib import Path

_PACKAGES = ("", ".bench", ".cli", ".export", ".runtime")
"""Those that decide on a measurement and its report."""


def code_digest() -> str:
    """Return the SHA-256 of the program's own files as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in _PACKAGES:
        folder = Path(importlib.import_module(f"drc_deploy{name}").__path__[0])
        for path in sorted(folder.glob("*.py")):
            digest.update(f"{name}/{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
