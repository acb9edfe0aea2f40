import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from drc_deploy.cli.commands.info_command import command
from drc_deploy.cli.main import main
from drc_deploy.locate import SHIPPED
from tests.runtime.networks import write_nearest, write_windows


def test_an_onnx_is_found_by_its_name_in_the_work_folder(tmp_path: Path) -> None:
    info = write_nearest(tmp_path / "n.onnx")
    result = CliRunner().invoke(command, ["n", "--workdir", str(tmp_path), "--json"])
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["model"], facts["scale"]) == ("ONNX", "nearest", info.scale)
    assert facts["inputs"]["lr"].startswith("tensor(uint8)")


def test_text_has_a_line_per_fact(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    result = CliRunner().invoke(command, [str(tmp_path / "n.onnx")])
    assert ["precision", "fp32"] in [line.split() for line in result.stdout.splitlines()]


def test_the_sides_that_a_network_takes_are_shown(tmp_path: Path) -> None:
    write_windows(tmp_path / "n.onnx", 8)
    result = CliRunner().invoke(command, [str(tmp_path / "n.onnx")])
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["multiple_of", "8"] in lines
    assert ["minimum", "1"] in lines


@pytest.mark.parametrize(("name", "stored"), [("drn_s", "float16"), ("drn_xs", "float32")])
def test_how_the_weights_of_a_checkpoint_are_stored_is_shown(name: str, stored: str) -> None:
    result = CliRunner().invoke(command, [str(SHIPPED / f"{name}.safetensors")])
    assert ["stored_as", stored] in [line.split() for line in result.stdout.splitlines()]


@pytest.mark.parametrize(("name", "sentence"), [("none.onnx", "there is no file"), ("a.txt", "no kind known")])
def test_what_cannot_be_known_is_an_error(
    tmp_path: Path, name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SystemExit) as ended:
        main(["info", str(tmp_path / name)])
    assert ended.value.code == 1
    assert sentence in capsys.readouterr().err
