"""A network that is replaced while it is in use never makes part of an image."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from drc_deploy.checkpoint import Parent
from drc_deploy.engine_info import METADATA_KEY
from drc_deploy.errors import ArtefactError
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend
from drc_deploy.runtime.backends.pytorch import loaded_network as torch_network
from drc_deploy.runtime.backends.pytorch.backend import TorchBackend
from drc_deploy.runtime.companions import float32_opener
from drc_deploy.runtime.loaded_file import LoadedFile
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.backends.ort.fake_onnxruntime import CUDA, FakeOnnxRuntime
from tests.runtime.networks import nearest, write_box, write_nearest

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
HOW: dict[str, Any] = {"tile": 16, "overlap": 0, "threads": 2}
REPLACED = r"was replaced while it was in use"


def move_over(source: Path, target: Path) -> None:
    shutil.copy2(source, target.with_suffix(".new"))
    os.replace(target.with_suffix(".new"), target)


def remove(source: Path, target: Path) -> None:
    target.unlink()


@pytest.mark.parametrize("put", [move_over, shutil.copy, remove])
def test_an_engine_that_is_replaced_during_a_run_computes_no_further_image(
    put: Callable[[Path, Path], object], tmp_path: Path
) -> None:
    write_box(tmp_path / "n.onnx")
    write_box(tmp_path / "other.onnx", value=1 / 18)
    with Upscaler.open(tmp_path / "n.onnx", **HOW) as upscaler:
        upscaler(IMAGE[:16, :16])  # one tile, in the session that is there
        put(tmp_path / "other.onnx", tmp_path / "n.onnx")
        with pytest.raises(ArtefactError, match=REPLACED):
            upscaler(IMAGE)  # many, in a session of one core each


def test_an_engine_whose_sessions_are_all_there_may_be_replaced(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    with Upscaler.open(tmp_path / "n.onnx", **HOW) as upscaler:
        upscaler(IMAGE)
        (tmp_path / "n.onnx").unlink()
        assert np.array_equal(upscaler(IMAGE), nearest(IMAGE, 4))


def test_an_engine_that_is_replaced_while_it_is_loaded_is_refused(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    file = LoadedFile(tmp_path / "n.onnx")
    with pytest.raises(ArtefactError, match=REPLACED):
        file.load(lambda: write_nearest(tmp_path / "n.onnx", scale=2))


def test_an_engine_that_is_only_renamed_on_the_way_is_no_other_one(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    file = LoadedFile(tmp_path / "n.onnx")
    (tmp_path / "n.onnx").rename(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").rename(tmp_path / "n.onnx")
    (tmp_path / "n.onnx").chmod(0o600)
    assert file.load(lambda: "loaded") == "loaded"


def test_another_working_directory_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nearest(tmp_path / "n.onnx")
    write_nearest(tmp_path / "n.float.onnx", io_dtype="float32")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Upscaler.open("n.onnx", **HOW) as upscaler:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert np.array_equal(upscaler(IMAGE), nearest(IMAGE, 4))
        deep = IMAGE.astype(np.uint16) * 257
        assert np.array_equal(upscaler(deep), nearest(deep, 4))


def test_the_network_that_rescues_is_the_one_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same checkpoint, but exported anew: in INT8, for example, which is no float32."""
    FakeOnnxRuntime(CUDA).install(monkeypatch)
    path = tmp_path / "box.onnx"
    write_box(path)
    with OnnxRuntimeBackend(path) as backend:
        open_rescue = float32_opener(path, backend, 1)
        assert open_rescue is not None
        open_rescue().close()
        say_precision(path, "int8")
        with pytest.raises(ArtefactError, match=REPLACED):
            open_rescue()


def say_precision(path: Path, precision: str) -> None:
    model = onnx.load(path)
    said = model.metadata_props[0].value.replace('"fp32"', f'"{precision}"')
    onnx.helper.set_model_props(model, {METADATA_KEY: said})
    onnx.save(model, path)


def test_the_checkpoint_that_rescues_is_the_one_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    shutil.copy(SHIPPED / "drn_xs.safetensors", path)
    with TorchBackend(path, precision="bf16") as backend:
        open_rescue = float32_opener(path, backend, 1)
    assert open_rescue is not None
    shutil.copy(SHIPPED / "drn_xs_r50.safetensors", path)
    with pytest.raises(ArtefactError, match=REPLACED):
        open_rescue()


def test_a_checkpoint_that_is_replaced_while_it_is_loaded_is_not_described_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "n.safetensors"
    shutil.copy(SHIPPED / "drn_xs.safetensors", path)

    def read_and_replace(path: Path) -> Parent:
        read = Parent.read(path)
        shutil.copy(SHIPPED / "drn_xs_r50.safetensors", path)
        return read

    with TorchBackend(SHIPPED / "drn_xs.safetensors") as first:
        monkeypatch.setattr(torch_network, "Parent", SimpleNamespace(read=read_and_replace))
        backend = TorchBackend(path)
        assert backend.info == first.info
        tile = IMAGE[None].astype(np.float32)
        assert np.array_equal(backend.run(tile), first.run(tile))
