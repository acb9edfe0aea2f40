import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drc_deploy import records
from drc_deploy.bench.report import schema
from drc_deploy.bench.report.records import MergedReports, Report
from drc_deploy.errors import ArtefactError
from tests.bench import fakes
from tests.bench.reports import steady, with_energy, with_power_mode

jsonschema = pytest.importorskip("jsonschema")
MISSING = object()
"""Stands for taking a field out."""
PUBLISHED = Path(__file__).parents[3] / "docs/report.schema.json"


def validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One with something in every part that a machine without instruments can fill."""
    folder = tmp_path_factory.mktemp("report")
    engines = with_energy(steady("a", 10, network={"tile": (8, 8)}), 1.0), steady("b", 20)
    full = dataclasses.replace(engines[0], latency=fakes.engine("a", 1.0, runs=40).latency)
    return with_power_mode(fakes.report(full, engines[1], folder=folder), "MAXN")


def test_the_published_schema_is_that_of_the_program() -> None:
    command = "python -m drc_deploy.bench.report.schema > docs/report.schema.json"
    assert PUBLISHED.read_text(encoding="utf-8") == schema.schema_text(), command
    jsonschema.Draft202012Validator.check_schema(schema.report_schema())


def test_reports_follow_the_schema(report: Report) -> None:
    assert list(validator().iter_errors(json.loads(records.to_json(report)))) == []


def test_merged_reports_follow_their_part_of_the_schema(report: Report) -> None:
    part = schema.report_schema() | {"$ref": "#/$defs/MergedReports"}
    merged = json.loads(records.to_json(MergedReports("2026-01-02T03:04:05+00:00", "0.1.0", (report, fakes.report()))))
    assert list(jsonschema.Draft202012Validator(part).iter_errors(merged)) == []
    del merged["reports"][1]["engines"]
    assert not jsonschema.Draft202012Validator(part).is_valid(merged)


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_another_version_does_not_follow_the_schema(report: Report, version: object) -> None:
    assert not validator().is_valid(json.loads(records.to_json(report)) | {"schema": version})


def test_a_newer_report_with_more_fields_follows_it_too(report: Report) -> None:
    assert validator().is_valid(json.loads(records.to_json(report)) | {"colour": "blue"})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the place of everything inside parsed JSON; of equal items in a list, only the first."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def with_change(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(data)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return changed


def is_read(data: Any) -> bool:
    """Whether the reader takes it, or refuses it for a number that no schema knows to be impossible."""
    try:
        records.from_dict(Report, data, "x")
    except ArtefactError as error:
        return "impossible metadata" in error.message
    return True


@pytest.mark.parametrize(
    "value",
    [MISSING, None, "text", -1, 0.5, True, [], {}],
    ids=lambda value: "missing" if value is MISSING else repr(value),
)
def test_the_schema_refuses_what_the_program_refuses(report: Report, value: Any) -> None:
    """The reader of records is a second implementation of what a report may hold: each place is broken in turn."""
    data = json.loads(records.to_json(report))
    follows = validator().is_valid
    paths = [path for path in places(data) if path != ("schema",)]  # True is 1 in Python and not in JSON
    broken = [with_change(data, path, value) for path in paths]
    verdicts = [(path, is_read(item), follows(item)) for path, item in zip(paths, broken, strict=True)]
    assert [path for path, read, valid in verdicts if read != valid] == []
    assert any(not read for _, read, _ in verdicts)


def test_fields_are_described_by_the_text_below_them() -> None:
    engine = schema.report_schema()["$defs"]["EngineResult"]
    assert engine["properties"]["device"]["description"] == "Device that computed, as the library names it."
    assert "description" not in engine["properties"]["sha256"]
    assert engine["description"].startswith("One engine, measured from end to end")


def test_only_fields_that_some_runs_lack_are_not_required() -> None:
    report = schema.report_schema()["$defs"]["Report"]
    assert set(report["properties"]) - set(report["required"]) == {"suite", "remote"}
