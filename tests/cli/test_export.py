import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.cli.commands.export_command import command, newest_checkpoint
from drc_deploy.errors import ArtefactError, DrcDeployError, MissingDependencyError, UsageError
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def _error(*arguments: str | Path) -> DrcDeployError:
    error = _run(*arguments).exception
    assert isinstance(error, DrcDeployError)
    return error


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "w" / "a.safetensors"
    save_checkpoint(path, Checkpoint.of(build_network(ModelSpec("drn_xs", 4))))
    return path


def test_the_newest_checkpoint_is_taken(tmp_path: Path) -> None:
    for age, name in enumerate(["c.safetensors.tmp", "b.safetensors", "a.safetensors", "d.onnx"]):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert newest_checkpoint(tmp_path).name == "b.safetensors"


@pytest.mark.parametrize("folder", ["", "missing"])
def test_no_checkpoint_says_how_to_get_one(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ArtefactError, match="no checkpoint") as caught:
        newest_checkpoint(tmp_path / folder)
    assert "drc-deploy compress" in caught.value.hint


def test_json_is_one_object_and_the_choice_of_checkpoint_goes_to_stderr(checkpoint: Path) -> None:
    result = _run("--workdir", checkpoint.parent, "-o", "named", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["onnx"] == str(checkpoint.parent / "named.onnx")
    assert report["verification"]["onnx_float"]["psnr_db"] >= 60
    assert report["plan"] is None
    assert str(checkpoint) in result.stderr
    assert sorted(os.listdir(checkpoint.parent)) == ["a.safetensors", "named.float.onnx", "named.onnx"]


def test_a_checkpoint_of_another_program_is_named_as_such(tmp_path: Path) -> None:
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    assert "another program" in _error(tmp_path / "x.safetensors", "--workdir", tmp_path).message


def test_an_unknown_name_lists_the_shipped_models(tmp_path: Path) -> None:
    error = _error("drn_sx", "--workdir", tmp_path)
    assert isinstance(error, ArtefactError)
    assert "drn_sx" in error.message


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tile", "0"),
        ("--tile", "-3"),
        ("--tile", "many"),
        ("--tile", "99999999999"),
        ("--max-batch", "0"),
        ("--trt", "fp16", "--workspace", "0"),
        ("--trt", "fp16", "--workspace", "99999999999"),
        ("--workspace", "512"),
        ("--builder", "tensorrt_rtx"),
        ("--exact", "--precision", "bf16"),
        ("--version-compatible",),
        ("--hardware-compatible",),
        ("--dla", "0"),
        ("--trt", "fp32", "--dla", "0"),
        ("--trt", "bf16", "--dla", "0"),
        ("--trt", "fp16", "--dla", "0", "--tile", "dynamic"),
        ("-o", "a/b"),
        ("--precision", "fp32", "--trt", "fp16"),
    ],
)
def test_impossible_options_are_wrong_usage_and_write_nothing(checkpoint: Path, arguments: tuple[str, ...]) -> None:
    error = _error(checkpoint, "--workdir", checkpoint.parent, *arguments)
    assert isinstance(error, UsageError)
    assert os.listdir(checkpoint.parent) == ["a.safetensors"]


@pytest.mark.parametrize(
    "arguments", [("--precision", "int4"), ("--dla", "-1"), ("--builder", "other"), ("--max-batch", "x")]
)
def test_options_outside_their_choices_exit_with_2(arguments: tuple[str, ...]) -> None:
    assert _run("x", *arguments).exit_code == 2


def test_a_missing_package_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    error = _error(checkpoint, "--workdir", checkpoint.parent)
    assert isinstance(error, MissingDependencyError)
    assert "onnxscript" in error.message


def test_a_workdir_that_is_a_file_exits_with_2(checkpoint: Path) -> None:
    assert _run(checkpoint, "--workdir", checkpoint).exit_code == 2
