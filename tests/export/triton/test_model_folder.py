import os
from dataclasses import replace
from pathlib import Path

import pytest

from drc_deploy.engine_info import PlanSidecar
from drc_deploy.errors import ArtefactError, OutputError
from drc_deploy.export.triton.from_onnx import model_from_onnx
from drc_deploy.export.triton.model_folder import ModelFolder
from drc_deploy.files import sha256_of
from tests.export.test_staging import full_disk
from tests.export.triton.configs import parameters, read_config
from tests.runtime.networks import write_nearest


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    write_nearest(tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def files(folder: Path) -> dict[str, bytes]:
    """Return every file and folder under a folder, hidden ones too."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): b"" if path.is_dir() else path.read_bytes() for path in found}


def test_a_model_is_a_configuration_and_one_version(onnx: Path, tmp_path: Path) -> None:
    model_from_onnx(onnx, ModelFolder(tmp_path / "models" / "net"))
    found = files(tmp_path / "models")
    assert found.keys() == {"net", "net/config.pbtxt", "net/1", "net/1/model.onnx"}
    assert found["net/1/model.onnx"] == onnx.read_bytes()
    assert read_config(tmp_path / "models" / "net").name == "net"


def test_the_same_network_gives_the_same_bytes(onnx: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        model_from_onnx(onnx, ModelFolder(tmp_path / folder / "net"))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_plan_takes_its_own_tile_and_batch_from_its_sidecar(onnx: Path, tmp_path: Path) -> None:
    info = replace(write_nearest(onnx), tile=(32, 48), max_batch=4, precision="fp16")
    plan = tmp_path / "net.plan"
    plan.write_bytes(b"a plan")
    sidecar = PlanSidecar(
        engine=info,
        builder="tensorrt",
        builder_version="10.3.0",
        gpu="",
        compute_capability="8.7",
        driver="",
        onnx_file="net.onnx",
        onnx_sha256=sha256_of(onnx),
        plan_sha256=sha256_of(plan),
        precision_requested="fp16",
        layers_by_precision={},
        precision_source="graph",
        verification={},
    )
    (tmp_path / "net.plan.json").write_text(sidecar.to_json())
    ModelFolder(tmp_path / "models" / "net").write(onnx, plan)
    assert files(tmp_path / "models")["net/1/model.plan"] == b"a plan"
    config = read_config(tmp_path / "models" / "net")
    assert (config.platform, config.max_batch_size, list(config.input[0].dims)) == ("tensorrt_plan", 4, [32, 48, 3])
    assert list(config.output[0].dims) == [128, 192, 3]
    assert parameters(config)["precision"] == "fp16"


def test_what_is_there_stays_unless_it_may_be_replaced(onnx: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "net"
    model_from_onnx(onnx, ModelFolder(model))
    before = files(tmp_path / "models")
    write_nearest(onnx, scale=2)
    with pytest.raises(OutputError, match="exists already"):
        model_from_onnx(onnx, ModelFolder(model))
    assert files(tmp_path / "models") == before
    model_from_onnx(onnx, ModelFolder(model, overwrite=True))
    assert files(tmp_path / "models").keys() == before.keys()
    assert parameters(read_config(model))["scale"] == "2"


@pytest.mark.parametrize("extra", ["2/model.onnx", "1/labels.txt", "notes.txt", "1/model.onnx/part"])
def test_files_of_the_user_are_never_replaced(extra: str, onnx: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "net"
    (model / extra).parent.mkdir(parents=True)
    (model / extra).write_text("mine")
    before = files(tmp_path / "models")
    with pytest.raises(OutputError, match="not as an export writes it: it holds"):
        model_from_onnx(onnx, ModelFolder(model, overwrite=True))
    assert files(tmp_path / "models") == before


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_no_folder_is_never_replaced(kind: str, onnx: Path, tmp_path: Path) -> None:
    model, elsewhere = tmp_path / "models" / "net", tmp_path / "elsewhere"
    model.parent.mkdir()
    if kind == "file":
        model.write_text("mine")
    else:
        model.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"it is no folder|exists already"):
            model_from_onnx(onnx, ModelFolder(model, overwrite=overwrite))
    assert os.listdir(model.parent) == ["net"]
    assert model.is_symlink() == (kind != "file")


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_what_was_there(there: bool, onnx: Path, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "models" / "net", overwrite=True)
    if there:
        model_from_onnx(onnx, folder)
    before = files(tmp_path / "models") if there else {}
    with onnx.open("ab") as stream:  # a field that no reader knows makes it longer than the disk is
        stream.write(b"\xfa\x7f\x80\x80\x02" + bytes(1 << 15))
    with pytest.raises(OutputError, match="cannot write"), full_disk():
        model_from_onnx(onnx, folder)
    assert (tmp_path / "models").exists() == there
    assert files(tmp_path / "models") == before


def test_a_model_that_cannot_take_its_place_leaves_the_old_one(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ModelFolder(tmp_path / "models" / "net", overwrite=True)
    model_from_onnx(onnx, folder)
    before, rename = files(tmp_path / "models"), Path.rename

    def fail_once(path: Path, target: Path) -> Path:
        if path.name == "made":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OutputError, match="Input/output error"):
        model_from_onnx(onnx, folder)
    assert files(tmp_path / "models") == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_the_user_makes_during_an_export_stays(overwrite: bool, onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "models" / "net"
    if overwrite:
        model_from_onnx(onnx, ModelFolder(path))
    model = ModelFolder(path, overwrite)
    with model.kept():
        (path / "2").mkdir(parents=True)
        (path / "2" / "model.onnx").write_bytes(b"mine")
        before = files(path)
        with pytest.raises(OutputError):
            model.write(onnx)
        assert files(path) == before


def test_another_export_of_the_same_model_is_kept_out(onnx: Path, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "models" / "net")
    with folder.kept(), pytest.raises(OutputError, match="another process is writing"):
        model_from_onnx(onnx, folder)
    assert not (tmp_path / "models").exists()


def test_only_the_network_itself_becomes_a_model(tmp_path: Path) -> None:
    write_nearest(tmp_path / "net.float.onnx", io_dtype="float32")
    write_nearest(tmp_path / "other.onnx", metadata=False)
    for name in ("net.float.onnx", "other.onnx", "missing.onnx"):
        with pytest.raises(ArtefactError):
            model_from_onnx(tmp_path / name, ModelFolder(tmp_path / "models" / "net"))
    assert not (tmp_path / "models").exists()
