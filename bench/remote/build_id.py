"""Which program measures: equal versions of a checkout need not be equal programs."""

import hashlib
import os
from pathlib import Path

import drc_deploy


def code_digest() -> str:
    """Return the SHA-256 of every file of the program, in 64 hexadecimal digits."""
    root = Path(drc_deploy.__file__).parent
    paths: dict[str, Path] = {}
    for folder, _, names in os.walk(root, followlinks=True):  # the rooms of a checkout are links
        if Path(folder).name != "__pycache__":
            files = [Path(folder) / name for name in names if not name.startswith(".")]
            paths |= {path.relative_to(root).as_posix(): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(paths):
        digest.update(f"{name}\0".encode() + hashlib.sha256(paths[name].read_bytes()).digest())
    return digest.hexdigest()
