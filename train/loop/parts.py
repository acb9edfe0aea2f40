"""A large file as several small ones: some machines that are lent hand back no file above 16 MiB.

The file itself then holds no tensors: its metadata name the parts, with their checksums. It is written last, and parts
are named by their content. A kill at any time leaves the old set or the new one whole.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save

from drc_deploy.checkpoint_info import metadata_in
from drc_deploy.errors import ArtefactError
from drc_deploy.files import write_bytes
from drc_deploy.input_files import open_file, read_bytes

PART_BYTES = 15 << 20
_KEY = "drc_deploy_parts"
_ANEW = "Copy all files of the folder again, or add --restart to begin anew."


def write_in_parts(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically, with parts next to it where it is above ``PART_BYTES``."""
    parts = {}
    if len(content) > PART_BYTES:
        for number, start in enumerate(range(0, len(content), PART_BYTES), 1):
            part = content[start : start + PART_BYTES]
            sha256 = hashlib.sha256(part).hexdigest()
            parts[f"{path.stem}-{number:02}-{sha256[:16]}.part"] = sha256
            write_bytes(path.with_name(list(parts)[-1]), part)
        content = save({}, metadata={_KEY: json.dumps(parts)})
    write_bytes(path, content)
    _remove_parts(path, kept=parts)


def read_from_parts(path: Path) -> bytes:
    """Read what ``write_in_parts`` wrote.

    Raises:
        ArtefactError: a part is missing, damaged or of another file.
        OSError: ``path`` cannot be read.
        SafetensorError: its header is too long.
        ValueError: ``path`` is no safetensors file, or lists no parts that it can have.
    """
    with open_file(path) as stream:  # of any length
        content = stream.read()
    listed = metadata_in(content).get(_KEY)
    if listed is None:
        return content
    parts = json.loads(listed)
    for number, name in enumerate(parts, 1):
        found = _part_of(path).fullmatch(name)
        if not found or int(found[1]) != number:
            raise ValueError(f"part {number} cannot be {name!r}")
    return b"".join(_read_part(path.with_name(name), sha256) for name, sha256 in parts.items())


def remove_with_parts(path: Path) -> None:
    """Remove ``path``, if it is there, and then its parts."""
    path.unlink(missing_ok=True)
    _remove_parts(path, kept={})


def _part_of(path: Path) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(path.stem)}-(\d+)-[0-9a-f]{{16}}\.part")


def _read_part(path: Path, sha256: str) -> bytes:
    try:
        content = read_bytes(path)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path}, a part of a training state, is missing.", _ANEW) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtefactError(f"{path}, a part of a training state, is damaged.", _ANEW)
    return content


def _remove_parts(path: Path, *, kept: Mapping[str, str]) -> None:
    if not path.parent.is_dir():
        return
    for other in path.parent.iterdir():
        if _part_of(path).fullmatch(other.name) and other.name not in kept:
            other.unlink(missing_ok=True)
