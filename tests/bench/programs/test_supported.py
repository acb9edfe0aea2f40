import dataclasses
import shutil
from pathlib import Path

import pytest

from drc_deploy.bench.programs.supported import find_program_input
from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.locate import SHIPPED
from tests.runtime.fake_backend import fake_info

CHECKPOINT = SHIPPED / "drn_xs.safetensors"


def info(sha256: str) -> EngineInfo:
    return dataclasses.replace(fake_info(), checkpoint_sha256=sha256)


def test_a_checkpoint_is_found_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    shutil.copy(SHIPPED / "drn_xs_r30.safetensors", tmp_path / "drn_xs.safetensors")  # its name says otherwise
    engine = tmp_path / "drn_xs.onnx"
    assert find_program_input("torch", engine, info(sha256_of(CHECKPOINT)), tmp_path / "work") == CHECKPOINT
    renamed = tmp_path / "work/another.safetensors"
    shutil.copy(CHECKPOINT, renamed)
    assert find_program_input("torch", engine, info(sha256_of(CHECKPOINT)), tmp_path / "work") == renamed


@pytest.mark.parametrize("sha256", ["0" * 64, ""])
def test_a_checkpoint_that_is_nowhere_is_reported(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(ArtefactError, match="nor a shipped one"):
        find_program_input("torch", tmp_path / "x.onnx", info(sha256), tmp_path)


def test_trtexec_runs_the_plan_itself_and_openvino_the_onnx(tmp_path: Path) -> None:
    onnx, plan = tmp_path / "x.onnx", tmp_path / "x.plan"
    assert find_program_input("trtexec", plan, info("0"), tmp_path) == plan
    assert find_program_input("trtexec", onnx, info("0"), tmp_path) == onnx
    assert find_program_input("openvino", onnx, info("0"), tmp_path) == onnx


@pytest.mark.parametrize("name", ["x.plan", "x.safetensors"])
def test_an_engine_without_an_onnx_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="it needs an ONNX"):
        find_program_input("openvino", tmp_path / name, info("0"), tmp_path)
