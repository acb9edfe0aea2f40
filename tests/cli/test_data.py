import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from drc_deploy.cli.data_command import command
from drc_deploy.errors import UsageError
from tests.train.data.photograph_files import noise, write, write_div2k, write_many


def data(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


def test_prepare_reports_what_was_stored_skipped_and_what_is_next(tmp_path: Path) -> None:
    images = write_many(tmp_path / "photos", 3)
    (tmp_path / "photos" / "bad.png").write_text("bad")
    store = tmp_path / "store"
    result = data("prepare", tmp_path / "photos", "-o", store)
    assert result.exception is None
    assert f"3 images, 0.03 megapixels, {sum(image.size for image in images)} bytes" in result.stdout
    assert "1 skipped" in result.stdout
    assert f"Next: drc-deploy train --model drn_xs --data {store}" in result.stdout
    assert f"Skipped: {tmp_path}/photos/bad.png" in result.stderr
    assert "Nothing to do" in data("prepare", tmp_path / "photos", "-o", store).stdout


def test_json_is_one_object_on_standard_output(tmp_path: Path) -> None:
    write_div2k(tmp_path / "div2k")
    write(tmp_path / "more" / "a_HR" / "1.png", noise(1, 128, 128))
    write(tmp_path / "more" / "a_LR" / "x4" / "1.png", noise(2, 32, 32))
    result = data(
        "prepare", tmp_path / "div2k", tmp_path / "more", "-o", tmp_path / "store", "--lr", "paired", "--json"
    )
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["lr_factors"], summary["made"]) == (3, [2, 4, 8], True)
    assert len(summary["skipped"]) == 1


def test_another_request_for_the_same_store_is_a_usage_error_until_restarted(tmp_path: Path) -> None:
    write_many(tmp_path / "photos", 3)
    arguments = ("prepare", tmp_path / "photos", "-o", tmp_path / "store")
    data(*arguments)
    assert isinstance(data(*arguments, "--min-side", 97).exception, UsageError)
    assert "2 images" in data(*arguments, "--min-side", 97, "--restart").stdout


@pytest.mark.parametrize(
    "arguments", [("nowhere", "-o", "store"), ("-o", "store"), (".",), (".", "-o", "x", "--lr", "")]
)
def test_arguments_that_cannot_be_right_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(data("prepare", *arguments).exception, click.UsageError)
    assert not list(tmp_path.iterdir())
