"""``export --triton``: a repository whose configuration agrees with the network in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner, Result
from onnx import shape_inference

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.cli.commands.export_command import command
from drc_deploy.errors import MissingDependencyError, OutputError, UsageError
from drc_deploy.export.trt import plan_export
from drc_deploy.export.trt.libraries import Library
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from tests.export.triton.configs import read_config
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "w" / "net.safetensors"
    save_checkpoint(path, Checkpoint.of(build_network(ModelSpec("drn_xs", 4))))
    return path


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ((), None),
        (("--tile", "24x16", "--max-batch", "3"), [24, 16]),
        (("--tile", "24x16", "--max-batch", "1"), [24, 16]),
    ],
)
def test_the_configuration_is_that_of_the_graph(
    options: tuple[str, ...], shape: list[int] | None, checkpoint: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    result = _run(checkpoint, "--workdir", checkpoint.parent, "--triton", models, "--json", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["triton"] == str(models / "net")
    model = models / "net"
    assert (model / "1" / "model.onnx").read_bytes() == (checkpoint.parent / "net.onnx").read_bytes()

    config, graph = read_config(model), onnx.load(model / "1" / "model.onnx")
    batch = [] if config.max_batch_size == 0 else [-1]
    taken, given = [*batch, *config.input[0].dims], [*batch, *config.output[0].dims]
    assert [*_declared(graph.graph.input[0])] == taken
    assert [*_declared(graph.graph.output[0])] == given
    assert taken[1:3] == (shape or [-1, -1])

    # Once more, not as the file declares it: inferred from its operators, and run.
    tile = [2 if taken[0] == -1 else 1, *(shape or [20, 28]), 3]
    assert _inferred_output(graph, tile)[1:] == [4 * tile[1], 4 * tile[2], 3]
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx")
    (made,) = session.run([config.output[0].name], {config.input[0].name: np.zeros(tile, np.uint8)})
    assert made.shape == (tile[0], 4 * tile[1], 4 * tile[2], 3)
    assert made.dtype == np.uint8


def _declared(value: onnx.ValueInfoProto) -> list[int]:
    return [size.dim_value or -1 for size in value.type.tensor_type.shape.dim]


def _inferred_output(graph: onnx.ModelProto, tile: list[int]) -> list[int]:
    """Return the output's shape for an input of ``tile``, by onnx's own rules of each operator."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    for size, value in zip(fixed.graph.input[0].type.tensor_type.shape.dim, tile, strict=True):
        size.dim_value = value
    fixed.graph.output[0].type.tensor_type.ClearField("shape")
    return _declared(shape_inference.infer_shapes(fixed, data_prop=True).graph.output[0])


def test_an_exported_file_becomes_a_model_without_torch(tmp_path: Path) -> None:
    write_nearest(tmp_path / "net.onnx")
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'onnxruntime', 'google.protobuf'): sys.modules[name] = None\n"
        "from drc_deploy.cli.main import main\n"
        f"main(['export', {str(tmp_path / 'net.onnx')!r}, '--triton', {str(tmp_path / 'm')!r}, '-o', 'other'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "m" / "other") in done.stdout
    assert read_config(tmp_path / "m" / "other").name == "other"
    assert sorted(os.listdir(tmp_path)) == ["m", "net.onnx"]


@pytest.mark.parametrize(
    "options", [("--precision", "fp16"), ("--tile", "64"), ("--max-batch", "4"), ("--exact",), ("--overwrite",)]
)
def test_an_exported_file_stays_as_it_is(options: tuple[str, ...], tmp_path: Path) -> None:
    write_nearest(tmp_path / "net.onnx")
    triton = () if options == ("--overwrite",) else ("--triton", tmp_path / "m")
    error = _run(tmp_path / "net.onnx", *triton, *options).exception
    assert isinstance(error, UsageError)
    assert options[0] in error.message
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_a_model_that_is_there_is_found_before_the_work(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "m" / "net").mkdir(parents=True)
    error = _run(checkpoint, "--workdir", checkpoint.parent, "--triton", tmp_path / "m").exception
    assert isinstance(error, OutputError)
    assert "--overwrite" in error.hint
    assert os.listdir(checkpoint.parent) == ["net.safetensors"]


def test_a_name_that_is_no_text_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a\nb", os.fsdecode(b"a\xff")):
        error = _run(checkpoint, "--workdir", checkpoint.parent, "--triton", tmp_path / "m", "-o", name).exception
        assert isinstance(error, UsageError)
        assert "printable" in error.hint


def test_triton_gets_no_plan_that_it_cannot_run(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_export, "find_library", lambda choice, gpu: Library("tensorrt_rtx", None))
    arguments = (checkpoint, "--workdir", checkpoint.parent, "--triton", tmp_path / "m", "--trt", "fp16")
    error = _run(*arguments).exception
    assert isinstance(error, MissingDependencyError)
    assert "TensorRT-RTX" in error.message
    dla = _run(*arguments, "--dla", "0").exception
    assert isinstance(dla, UsageError)
    assert "--max-batch 1" in dla.hint
    assert os.listdir(checkpoint.parent) == ["net.safetensors"]
