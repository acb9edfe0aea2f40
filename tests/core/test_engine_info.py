"""What an engine says about the sides of its input."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.engine_info import METADATA_KEY, EngineInfo
from drc_deploy.errors import ArtefactError
from tests.runtime.fake_backend import fake_info


@given(side=st.integers(1, 500), multiple_of=st.integers(1, 64), minimum=st.integers(1, 200))
def test_the_side_that_is_taken_is_the_least_that_is_allowed(side: int, multiple_of: int, minimum: int) -> None:
    info = dataclasses.replace(fake_info(), multiple_of=multiple_of, minimum=minimum)
    allowed = [number for number in range(1, 1000) if number % multiple_of == 0 and number >= minimum]
    assert info.taken_side(side) == next(number for number in allowed if number >= side)


def test_an_older_file_takes_every_side() -> None:
    fields = json.loads(fake_info().to_json())
    del fields["multiple_of"], fields["minimum"]
    info = EngineInfo.from_metadata({METADATA_KEY: json.dumps(fields)}, Path("old.onnx"))
    assert (info.multiple_of, info.minimum) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"multiple_of": 0}, "at least 1"),
        ({"minimum": -1}, "at least 1"),
        ({"multiple_of": 8, "tile": (16, 20)}, "multiples of 8$"),
        ({"multiple_of": 8, "minimum": 9, "tile": (8, 16)}, "multiples of 8, at least 16$"),
        ({"minimum": 9, "tile": (16, 8)}, "at least 9$"),
    ],
)
def test_impossible_sides_are_refused_with_the_name_of_the_file(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(fake_info(), **changes)  # type: ignore[arg-type]
    fields = json.loads(fake_info().to_json()) | changes
    with pytest.raises(ArtefactError, match="has impossible metadata"):
        EngineInfo.from_metadata({METADATA_KEY: json.dumps(fields)}, Path("x.onnx"))


@pytest.mark.parametrize(
    "changed",
    [{"scale": 100_000}, {"minimum": 1 << 16}, {"multiple_of": 1 << 16}, {"tile": (1 << 20, 16)}],
    ids=lambda changed: next(iter(changed)),
)
def test_metadata_that_ask_for_enormous_images_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no side of an input above"):
        dataclasses.replace(fake_info(), **changed)
