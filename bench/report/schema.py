"""JSON Schema of ``report.json``, made from the dataclasses: ``python -m drc_deploy.bench.report.schema``.

The descriptions are the docstrings of the classes and those that stand below their fields, read from the source.
"""

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

from drc_deploy.bench.report.records import MergedReports, Report
from drc_deploy.records import SCHEMA_VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def report_schema() -> dict[str, Any]:
    """Return the schema of ``report.json``, and that of ``reports.json`` as ``#/$defs/MergedReports``.

    Fields that it does not know are allowed: newer files have more.
    """
    (reference, _), definitions = msgspec.json.schema_components([Report, MergedReports], ref_template="#/$defs/{name}")
    for record in _records_in(MergedReports):
        for field, text in _field_docstrings(record).items():
            definitions[record.__name__]["properties"][field]["description"] = text
    version = {"const": SCHEMA_VERSION, "description": "Raised when a field changes its meaning."}
    return {
        "$schema": DIALECT,
        "title": "report.json of drc-deploy",
        "properties": {"schema": version},
        "required": ["schema"],
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def _records_in(hint: Any) -> Iterator[type]:
    """Return every dataclass in a type hint, and in the fields of those."""
    if dataclasses.is_dataclass(hint):
        yield typing.cast("type", hint)
    inner = typing.get_type_hints(hint).values() if dataclasses.is_dataclass(hint) else typing.get_args(hint)
    for item in inner:
        yield from _records_in(item)


def _field_docstrings(record: type) -> dict[str, str]:
    """Return the text below each field, which Python itself does not keep."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for pair in pairwise(definition.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[field] = inspect.cleandoc(text)
    return texts


def schema_text() -> str:
    """Return the text of ``docs/report.schema.json``."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
