"""Frozen dataclasses to JSON and back, checked field by field.

The metadata of every artefact goes through here, so that a file from another program or another version is
refused with a sentence instead of failing somewhere later.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from drc_deploy.errors import ArtefactError
from drc_deploy.input_files import MOST_BYTES, read_bytes

Record = TypeVar("Record")

SCHEMA_VERSION = 1
"""Version of all artefact metadata; raised when a field changes its meaning."""
_MOST_DEPTH = 200
"""Of JSON: each step of a network's history is one deeper, and Python's own limit is at some 400."""


def to_dict(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON-ready values, with the schema version."""
    return {"schema": SCHEMA_VERSION, **dataclasses.asdict(record)}


def to_json(record: Any) -> str:
    """Return a dataclass as JSON text on one line."""
    return json.dumps(to_dict(record))


def parse_json_object(text: str | bytes, source: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """Parse ``text``, ``most`` bytes at most, as a JSON object; ``source`` names it in the error.

    Raises:
        ArtefactError: it is too long, or something else.
    """
    if len(text) > most:
        raise ArtefactError(
            f"{source} holds metadata of more than {most >> 20} MiB.",
            "Make the file again.",
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{source} does not hold valid JSON.", "Make the file again.") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{source} holds JSON, but not an object.", "Make the file again.")
    if _is_deeper(value, _MOST_DEPTH):
        raise ArtefactError(f"{source} holds JSON that is nested more than {_MOST_DEPTH} deep.", "Make the file again.")
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if b"\\ud" in content.lower():  # half of a character, perhaps: no name of a file, and nothing can print it
        try:
            # But for those that stand for the bytes of a name that is no text.
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except UnicodeError as error:
            raise ArtefactError(f"{source} holds text that is no Unicode.", "Make the file again.") from error
    return value


def _is_deeper(value: Any, most: int) -> bool:
    """Return whether objects and lists lie in each other more than ``most`` deep."""
    level = [value]
    for _ in range(most):
        inside = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
    return bool(level)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        ArtefactError: it cannot be read, is too long, or holds something else.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Check the file.") from error
    return parse_json_object(content, str(path))


def from_dict(cls: type[Record], data: dict[str, Any], source: str) -> Record:
    """Build ``cls`` from parsed JSON. Unknown keys are ignored, so that newer files can add some.

    Raises:
        ArtefactError: another schema version, a missing field that has no default, or a value of the wrong type.
    """
    version = data.get("schema")
    if version is True or version != SCHEMA_VERSION:
        newer = type(version) is int and version > SCHEMA_VERSION
        raise ArtefactError(
            f"{source} has metadata of version {version!r}; this program reads {SCHEMA_VERSION}.",
            "Update drc-deploy to read it." if newer else "Make the file again with this version of drc-deploy.",
        )
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        raise ArtefactError(f"{source} {_fault(error)}.", "Make the file again.") from error
    except UnicodeError as error:  # msgspec would print it, and JSON can spell it
        raise ArtefactError(f"{source} holds text that is no Unicode.", "Make the file again.") from error


def _fault(error: msgspec.ValidationError) -> str:
    """Return msgspec's message in our words; it ends with the place, such as ``- at `$.engines[0].scale```."""
    reason, _, place = str(error).partition(" - at `$")
    place = place.strip("`.")
    if error.__cause__ is not None:  # raised by the record's own check of its fields
        return f"has impossible metadata{f' in {place!r}' if place else ''}: {error.__cause__}"
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", reason):
        field = f"{place}.{missing[1]}" if place else missing[1]
        return f"lacks the metadata field {field!r}"
    return f"has a bad metadata field {place!r}: {reason[0].lower()}{reason[1:]}"
