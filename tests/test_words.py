"""Nothing that users read has a word that they stumble over."""

import re
from pathlib import Path

import pytest

from drc_deploy.cli.main import cli
from tests import words
from tests.imports import ROOMS

TESTS = Path(__file__).parent


@pytest.mark.parametrize("page", words.PAGES)
def test_a_page(page: str) -> None:
    assert list(words.in_page(page)) == []


@pytest.mark.parametrize("room", ["drc_deploy", *ROOMS])
def test_docstrings_and_messages(room: str) -> None:
    assert words.in_room(room) == []


def test_the_help_of_every_command() -> None:
    assert list(words.in_help(cli)) == []


def test_words_are_found_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.py"
    source.write_text(
        'def f():\n    """Gives it.\n\n    It tells\n    all.\n    """\n    raise ValueError(f"{f} told me")\n'
    )
    monkeypatch.setattr(words, "ROOT", tmp_path)
    assert sorted(words.in_code(source)) == [("a.py", 2, "Give"), ("a.py", 4, "tells"), ("a.py", 7, "told")]


def test_the_names_of_tests() -> None:
    names = re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in TESTS.rglob("test_*.py")), re.M)
    assert [name for name in names if words.FORBIDDEN.search(name.replace("_", " "))] == []
