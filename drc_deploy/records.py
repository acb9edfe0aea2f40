"""Frozen dataclasses to JSON and back, checked field by field.

The metadata of every artefact goes through here, so that a file from another program or another version is
refused with a sentence instead of failing somewhere later.
"""

import dataclasses
import json
import types
import typing
from typing import Any, Literal, TypeVar

from drc_deploy.errors import ArtefactError

Record = TypeVar("Record")

SCHEMA_VERSION = 1
"""Version of all artefact metadata; raised when a field changes its meaning."""


def to_dict(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON-ready values, with the schema version."""
    return {"schema": SCHEMA_VERSION, **dataclasses.asdict(record)}


def to_json(record: Any) -> str:
    """Return a dataclass as JSON text on one line."""
    return json.dumps(to_dict(record))


def parse_json_object(text: str | bytes, source: str) -> dict[str, Any]:
    """Parse ``text`` as a JSON object; ``source`` names it in the error."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{source} does not hold valid JSON.", "Make the file again.") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{source} holds JSON, but not an object.", "Make the file again.")
    return value


def from_dict(cls: type[Record], data: dict[str, Any], source: str) -> Record:
    """Build ``cls`` from parsed JSON. Unknown keys are ignored, so that newer files can add some.

    Raises:
        ArtefactError: another schema version, a missing field that has no default, or a value of the wrong type.
    """
    if data.get("schema") != SCHEMA_VERSION:
        raise ArtefactError(
            f"{source} has metadata of version {data.get('schema')!r}; this program reads {SCHEMA_VERSION}.",
            _other_version_hint(data.get("schema")),
        )
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in data:
            if field.default is not dataclasses.MISSING:
                continue  # younger than the file
            raise ArtefactError(f"{source} lacks the metadata field {field.name!r}.", "Make the file again.")
        try:
            values[field.name] = _convert(data[field.name], hints[field.name])
        except (TypeError, ValueError, OverflowError, ArtefactError) as error:
            raise ArtefactError(
                f"{source} has a bad metadata field {field.name!r}: {error}.", "Make the file again."
            ) from error
    try:
        return cls(**values)
    except ValueError as error:
        raise ArtefactError(f"{source} has impossible metadata: {error}.", "Make the file again.") from error


def _other_version_hint(version: Any) -> str:
    newer = type(version) is int and version > SCHEMA_VERSION
    return "Update drc-deploy to read it." if newer else "Make the file again with this version of drc-deploy."


def _convert(value: Any, hint: Any) -> Any:
    """Check ``value`` against a type hint; lists become tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        return _convert_literal(value, arguments)
    if origin in {typing.Union, types.UnionType}:
        return _convert_union(value, arguments)
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if origin is dict:
        return {key: _convert(item, arguments[1]) for key, item in _convert_plain(value, dict).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, {"schema": SCHEMA_VERSION, **_convert_plain(value, dict)}, hint.__name__)
    return _convert_plain(value, hint)


def _convert_plain(value: Any, expected: type) -> Any:
    if expected is float and type(value) is int:
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise TypeError(f"expected {expected.__name__}, found {value!r}")
    return value


def _convert_literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"expected one of {allowed}, found {value!r}")
    return value


def _convert_union(value: Any, arguments: tuple[Any, ...]) -> Any:
    if value is None and type(None) in arguments:
        return None
    (only,) = (argument for argument in arguments if argument is not type(None))
    return _convert(value, only)


def _convert_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"expected a list, found {value!r}")
    if arguments[-1] is Ellipsis:
        return tuple(_convert(item, arguments[0]) for item in value)
    if len(value) != len(arguments):
        raise ValueError(f"expected {len(arguments)} values, found {len(value)}")
    return tuple(_convert(item, hint) for item, hint in zip(value, arguments, strict=True))
