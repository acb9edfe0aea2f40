"""SECURITY.md names tests that are there."""

import re

import pytest

from tests.imports import ROOT

PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
TESTS = "\n".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/test_*.py"))


@pytest.mark.parametrize("name", re.findall(r"`(test_\w+)`", PAGE))
def test_a_test_that_is_named_is_there(name: str) -> None:
    assert f"def {name}(" in TESTS


@pytest.mark.parametrize("place", re.findall(r"`(tests/[\w/.]+)`", PAGE))
def test_a_place_that_is_named_holds_tests(place: str) -> None:
    path = ROOT / place
    files = [path] if path.is_file() else list(path.glob("**/test_*.py"))
    assert any("def test_" in file.read_text("utf-8") for file in files)
