"""JSON Schema of ``report.json``, made from the dataclasses: ``python -m drc_deploy.bench.report.schema``.

The descriptions are the docstrings of the classes and those that stand below their fields, read from the source.
"""

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import types
import typing
from typing import Any, Literal

from drc_deploy.bench.report.merged import MergedReports
from drc_deploy.bench.report.records import Report
from drc_deploy.records import SCHEMA_VERSION

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", type(None): "null"}


def report_schema() -> Schema:
    """Return the schema of ``report.json``, and that of ``reports.json`` as ``#/$defs/MergedReports``.

    Fields that it does not know are allowed: newer files have more.
    """
    definitions: dict[str, Schema] = {}
    reference = _of_type(Report, definitions)
    _of_type(MergedReports, definitions)
    version = {"const": SCHEMA_VERSION, "description": "Raised when a field changes its meaning."}
    return {
        "$schema": DIALECT,
        "title": "report.json of drc-deploy",
        "properties": {"schema": version},
        "required": ["schema"],
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def _of_type(hint: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of one type hint; classes that it names go into ``definitions``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _reference(hint, definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in {typing.Union, types.UnionType}:
        return {"anyOf": [_of_type(argument, definitions) for argument in arguments]}
    if origin is tuple:
        return _of_tuple(arguments, definitions)
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(arguments[1], definitions)}
    return {"type": PLAIN[hint]}


def _of_tuple(arguments: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    if arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of_type(arguments[0], definitions)}
    items = [_of_type(argument, definitions) for argument in arguments]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _reference(record: type, definitions: dict[str, Schema]) -> Schema:
    """Point to a class, which is described where it is met first."""
    name = record.__name__
    if name not in definitions:
        definitions[name] = {}  # a class that held itself would not end
        definitions[name] = _of_class(record, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _of_class(record: type, definitions: dict[str, Schema]) -> Schema:
    hints, texts = typing.get_type_hints(record), _field_docstrings(record)
    properties = {
        field.name: _of_type(hints[field.name], definitions)
        | ({"description": texts[field.name]} if field.name in texts else {})
        for field in dataclasses.fields(record)
    }
    required = [field.name for field in dataclasses.fields(record) if field.default is dataclasses.MISSING]
    return {
        "type": "object",
        "description": inspect.cleandoc(record.__doc__ or ""),
        "properties": properties,
        "required": required,
    }


def _field_docstrings(record: type) -> dict[str, str]:
    """Return the text below each field, which Python itself does not keep."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)
    texts, field = {}, None
    for statement in definition.body:
        if field and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            texts[field] = inspect.cleandoc(str(statement.value.value))
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        field = statement.target.id if is_field else None  # type: ignore[attr-defined]
    return texts


def schema_text() -> str:
    """Return the text of ``docs/report.schema.json``."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
