"""Widths files round-trip, and foreign or impossible ones are refused."""

from pathlib import Path

import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.widths import WidthsFile, read_widths, write_widths

CONTENT = WidthsFile("drn_xs", 4, 0.3, ("a", "b"), (4, 8), "test")


def test_round_trip(tmp_path: Path) -> None:
    write_widths(tmp_path / "x.widths.json", CONTENT)
    assert read_widths(tmp_path / "x.widths.json", model="drn_xs", scale=4) == (4, 8)


def test_plain_lists_of_integers_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("12\n20\n\n36\n")
    assert read_widths(tmp_path / "x.txt", model="drn_s", scale=4) == (12, 20, 36)


def test_widths_of_another_model_are_refused(tmp_path: Path) -> None:
    write_widths(tmp_path / "x.widths.json", CONTENT)
    with pytest.raises(ArtefactError, match="drn_xs x4, not of drn_s x4"):
        read_widths(tmp_path / "x.widths.json", model="drn_s", scale=4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.txt", ""),
        ("x.txt", "1 two 3"),
        ("x.txt", "-4"),
        ("x.txt", "9" * 5000),
        ("x.json", "[]"),
        ("x.json", "{"),
        ("x.json", '{"schema": 1}'),
        ("x.json", '{"schema":1,"model":"m","scale":4,"ratio":0.3,"layers":["a"],"widths":[1,2],"found_by":""}'),
        ("x.json", '{"schema":1,"model":"m","scale":4,"ratio":0.3,"layers":["a"],"widths":["1"],"found_by":""}'),
        ("x.json", '{"schema":1,"model":"m","scale":4,"ratio":1' + "0" * 400 + "}"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ArtefactError):
        read_widths(tmp_path / name, model="m", scale=4)
    with pytest.raises(ArtefactError):
        read_widths(tmp_path / "missing.txt", model="m", scale=4)


def test_widths_of_layers_in_another_order_are_refused(tmp_path: Path) -> None:
    write_widths(tmp_path / "x.widths.json", CONTENT)
    assert read_widths(tmp_path / "x.widths.json", model="drn_xs", scale=4, layers=["a", "b"]) == (4, 8)
    with pytest.raises(ArtefactError, match="in another order"):
        read_widths(tmp_path / "x.widths.json", model="drn_xs", scale=4, layers=["b", "a"])
