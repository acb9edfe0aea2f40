import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from drc_deploy.checkpoint import load_checkpoint, save_checkpoint
from drc_deploy.cli.commands.verify_command import command
from drc_deploy.engine_info import METADATA_KEY
from drc_deploy.errors import ArtefactError, DrcDeployError, MissingDependencyError, VerificationError
from drc_deploy.export.export_checkpoint import ExportResult, export_checkpoint
from drc_deploy.export.request import ExportRequest, parse_tile
from drc_deploy.export.verify import engine_check
from drc_deploy.locate import SHIPPED
from tests.cli.commands import drc
from tests.runtime.networks import write_nearest


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def _error(*arguments: str | Path) -> DrcDeployError:
    error = _run(*arguments).exception
    assert isinstance(error, DrcDeployError)
    return error


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    folder = tmp_path_factory.mktemp("verify")
    request = ExportRequest(SHIPPED / "drn_xs.safetensors", folder, "net", "bf16", parse_tile("dynamic"), 2, None)
    return export_checkpoint(request)


def test_a_shipped_checkpoint_is_found_by_its_sha256(exported: ExportResult) -> None:
    result = _run(exported.onnx, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["checkpoint"] == str(SHIPPED / "drn_xs.safetensors")
    assert report["psnr_db"] >= report["required_psnr_db"] == 50
    assert 0 < report["differing_share"] < 0.3
    assert report["max_difference"] >= 1
    assert report["nan_samples"] == 0
    assert report["reference_saturated_share"] == pytest.approx(report["saturated_share"], abs=0.01)


def test_the_figures_are_those_of_the_export(exported: ExportResult) -> None:
    report = json.loads(_run(exported.float_onnx, "--json").stdout)
    for measure in ("psnr_db", "max_difference"):
        assert report[measure] == pytest.approx(exported.verification["onnx_float"][measure])
    # The 8-bit figure is of the rounded float output, which the uint8 graph computes itself.
    assert report["differing_share"] == pytest.approx(exported.verification["onnx_uint8"]["differing_share"])
    bytes_ = json.loads(_run(exported.onnx, "--json").stdout)
    assert bytes_["psnr_db"] == pytest.approx(exported.verification["onnx_uint8"]["psnr_db"])
    assert (report["io_dtype"], bytes_["io_dtype"]) == ("float32", "uint8")


def test_export_and_verify_print_the_same_psnr_under_the_same_name(tmp_path: Path) -> None:
    exported = drc("export", "drn_xs", cwd=tmp_path).stdout.splitlines()
    for file, name in (("drn_xs.float.onnx", "float32 output"), ("drn_xs.onnx", "8-bit output")):
        (by_export,) = (line for line in exported if f"  {name}: " in line)
        verified = drc("verify", f"drc_runs/{file}", cwd=tmp_path).stdout
        (by_verify,) = (line for line in verified.splitlines() if f"PSNR, {name}" in line)
        assert re.findall(r"([0-9.]+) dB", by_export) == re.findall(r"([0-9.]+) dB", by_verify) != []
        assert "4 crops of the shipped photographs" in verified
    assert "Checked on 4 crops of the shipped photographs, against torch in float32:" in exported


def test_a_name_in_the_work_folder_is_enough_and_text_says_what_was_compared(exported: ExportResult) -> None:
    result = _run("net.onnx", "--workdir", exported.onnx.parent)
    assert result.exit_code == 0
    assert "PSNR, 8-bit output" in result.output
    assert "widened" in result.output


def _changed(path: Path, target: Path, change: float) -> Path:
    model = onnx.load(path)
    for value in model.graph.initializer:
        if value.name.endswith("folded_bias") and value.dims[0] == 3:
            array = onnx.numpy_helper.to_array(value) + np.float32(change)
            value.CopyFrom(onnx.numpy_helper.from_array(array, value.name))
            onnx.save(model, target)
            return target
    raise AssertionError("no output convolution")


def test_an_engine_that_computes_something_else_fails_with_figures(exported: ExportResult, tmp_path: Path) -> None:
    result = _run(_changed(exported.onnx, tmp_path / "x.onnx", 5), "--json")
    assert isinstance(result.exception, VerificationError)
    assert "needed are 50 dB" in result.exception.message
    # Five grey levels everywhere but where the image is saturated.
    assert json.loads(result.stdout)["psnr_db"] == pytest.approx(20 * np.log10(255 / 5), abs=0.5)


def test_nan_is_counted_and_is_no_psnr(exported: ExportResult, tmp_path: Path) -> None:
    result = _run(_changed(exported.float_onnx, tmp_path / "x.onnx", np.nan), "--json")
    assert isinstance(result.exception, VerificationError)
    assert "NaN samples" in result.exception.message
    report = json.loads(result.stdout)
    assert report["psnr_db"] is None
    assert report["nan_samples"] == sum(16 * int(np.prod(shape)) for shape in report["shapes"])


def test_a_checkpoint_that_is_not_found_can_be_given(exported: ExportResult, tmp_path: Path) -> None:
    checkpoint = dataclasses.replace(load_checkpoint(SHIPPED / "drn_xs.safetensors"), provenance={"stage": "copied"})
    save_checkpoint(tmp_path / "other.safetensors", checkpoint)
    fixed = export_checkpoint(
        ExportRequest(tmp_path / "other.safetensors", tmp_path, "net", "fp32", parse_tile("20x28"), 2, None)
    )
    kept = tmp_path / "elsewhere" / "other.safetensors"
    kept.parent.mkdir()
    shutil.move(tmp_path / "other.safetensors", kept)
    missing = _error(fixed.onnx, "--workdir", tmp_path)
    assert isinstance(missing, ArtefactError)
    assert "--checkpoint" in missing.hint
    given = json.loads(_run(fixed.onnx, "--checkpoint", kept, "--json").stdout)
    assert (given["notes"], given["shapes"]) == ([], [[2, 20, 28, 3]])
    # The same weights in another file are compared, and said to be another file.
    other = json.loads(_run(fixed.onnx, "--checkpoint", "drn_xs", "--json").stdout)
    assert other["psnr_db"] == given["psnr_db"]
    assert "SHA-256 is another" in other["notes"][0]


def test_files_that_cannot_be_verified_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf")
    assert "bad.onnx" in _error(tmp_path / "bad.onnx").message
    assert "not an exported engine" in _error("drn_xs").message
    assert isinstance(_error("missing.plan"), ArtefactError)


def test_a_plan_that_cannot_run_here_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise MissingDependencyError(f"{path} needs a GPU.")

    monkeypatch.setattr(engine_check, "open_backend", refuse)
    (tmp_path / "x.plan").write_bytes(b"plan")
    assert "needs a GPU" in _error(tmp_path / "x.plan").message


def test_the_exit_code_is_one_and_there_is_no_traceback(exported: ExportResult, tmp_path: Path) -> None:
    bad = _changed(exported.onnx, tmp_path / "x.onnx", 9)
    done = drc("verify", bad, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_an_engine_of_another_size_than_its_metadata_say_is_refused(tmp_path: Path) -> None:
    info = write_nearest(tmp_path / "n.onnx", scale=2)
    model = onnx.load(tmp_path / "n.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: dataclasses.replace(info, scale=4).to_json()})
    onnx.save(model, tmp_path / "n.onnx")
    error = _error(tmp_path / "n.onnx", "--checkpoint", SHIPPED / "drn_xs.safetensors")
    assert isinstance(error, ArtefactError)
    assert re.search(r"gave \(.*\) where \(.*\) was expected", error.message)
