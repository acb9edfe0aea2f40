import json
import os
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from drc_deploy import records
from drc_deploy.errors import ArtefactError


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"a width of {self.width}")


@dataclass(frozen=True, slots=True)
class Network:
    scale: int
    ratio: float | None
    kind: Literal["plain", "dual"]
    layers: tuple[Layer, ...]
    tile: tuple[int, int]
    notes: dict[str, Any]
    seed: int = 1


NETWORK = Network(4, 0.5, "dual", (Layer("head", 8), Layer("tail", 3)), (8, 8), {"nested": {"list": [1, None]}})


def read(text: str) -> Network:
    return records.from_dict(Network, records.parse_json_object(text, "x.json"), "x.json")


def changed(**fields: Any) -> str:
    return json.dumps(records.to_dict(NETWORK) | fields)


def test_a_record_is_read_back_as_it_was_written() -> None:
    assert read(records.to_json(NETWORK)) == NETWORK


def test_fields_of_newer_files_are_ignored_and_defaults_fill_those_of_older_ones() -> None:
    data = json.loads(changed(colour="blue"))
    del data["seed"]
    assert read(json.dumps(data)) == NETWORK


def test_a_whole_number_is_read_as_a_float_where_one_is_expected() -> None:
    ratio = read(changed(ratio=1)).ratio
    assert (ratio, type(ratio)) == (1.0, float)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"scale": True}, "scale"),
        ({"scale": 4.0}, "scale"),
        ({"scale": "4"}, "scale"),
        ({"scale": None}, "scale"),
        ({"ratio": False}, "ratio"),
        ({"ratio": 10**400}, "ratio"),
        ({"kind": "other"}, "kind"),
        ({"layers": {}}, "layers"),
        ({"layers": [{"name": "head", "width": "8"}]}, "layers[0].width"),
        ({"tile": [8]}, "tile"),
        ({"tile": [8, 8, 8]}, "tile"),
        ({"tile": "88"}, "tile"),
        ({"notes": []}, "notes"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_file_and_field(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        read(changed(**fields))
    assert caught.value.message.startswith(f"x.json has a bad metadata field {place!r}: ")
    assert caught.value.hint


def test_a_missing_field_is_named_with_its_place() -> None:
    with pytest.raises(ArtefactError, match=r"^x\.json lacks the metadata field 'layers\[1\]\.name'\.$"):
        read(changed(layers=[{"name": "head", "width": 8}, {"width": 3}]))
    with pytest.raises(ArtefactError, match=r"^x\.json lacks the metadata field 'scale'\.$"):
        read('{"schema": 1}')


def test_the_reason_of_a_record_that_refuses_itself_is_kept() -> None:
    with pytest.raises(ArtefactError, match=r"x\.json has impossible metadata in 'layers\[0\]': a width of 0\."):
        read(changed(layers=[{"name": "head", "width": 0}]))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"schema": 1', "\ud800"])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError, match="valid JSON"):
        read(text)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    deep = read(changed().replace("[1, null]", "[" * 190 + "]" * 190))
    assert read(records.to_json(deep)) == deep
    for depth in (250, 900):  # more than `dataclasses` copies
        with pytest.raises(ArtefactError, match="nested more than 200 deep"):
            read(changed().replace("[1, null]", "[" * depth + "]" * depth))
    with pytest.raises(ArtefactError, match="valid JSON"):
        read(changed().replace("[1, null]", "[" * 100_000 + "]" * 100_000))


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(ArtefactError, match="metadata of version"):
        read(changed(schema=version))


@pytest.mark.parametrize("field", ["scale", "kind", "tile", "layers"])
def test_text_that_is_no_unicode_in_place_of_another_type_is_refused(field: str) -> None:
    with pytest.raises(ArtefactError, match="no Unicode"):
        read(changed(**{field: "\ud800"}))


@pytest.mark.parametrize("half", [r"\ud800", r"\udfff", r"\udc00\ud800"])
def test_halves_of_characters_are_no_text(half: str) -> None:
    with pytest.raises(ArtefactError, match="no Unicode"):
        records.parse_json_object(f'{{"folder": ["{half}"]}}', "the answer")
    with pytest.raises(ArtefactError, match="no Unicode"):
        records.parse_json_object(f'{{"{half}": 1}}', "the answer")


def test_bytes_of_a_name_that_is_no_text_stay() -> None:
    name = os.fsdecode(b"caf\xe9 \xff")
    assert records.parse_json_object(json.dumps({"name": name}), "the answer") == {"name": name}
    assert records.parse_json_object(r'{"name": "\ud83d\ude00"}', "the answer") == {"name": "\U0001f600"}
