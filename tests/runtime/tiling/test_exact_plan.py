"""Exact tiles by a plan: the same passes as in ONNX Runtime, over another runner."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from drc_deploy.engine_info import EXACT_PLAN_SUFFIX, EXACT_SUFFIX, EngineInfo, is_own_engine, sidecar_path
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.runtime.backends.open import open_backend
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.backends.trt import fake_tensorrt
from tests.runtime.backends.trt.fake_cuda import FakeCuda
from tests.runtime.backends.trt.fake_tensorrt import exact_plan_bytes, plan_bytes
from tests.runtime.backends.trt.test_backend import write_plan
from tests.runtime.tiling.test_exact import info, write_both
from tests.tensorrt_api import VERSIONS

TILE = 16


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    fake.install(monkeypatch)
    fake.install_graphs(monkeypatch)
    return fake


def write_plans(folder: Path, version: str = "tensorrt-10.3.0", **changes: object) -> Path:
    """Write ``net.plan`` with its exact plan, and the ONNX files that compute the same."""
    write_both(folder)
    builder = "tensorrt_rtx" if "rtx" in version else "tensorrt"
    engine: EngineInfo = info(tile=(TILE, TILE), **changes)
    for name, plan in (
        (f"net{EXACT_PLAN_SUFFIX}", exact_plan_bytes(TILE, int64="8.6" not in version)),
        ("net.plan", plan_bytes((1, TILE, TILE, 3), dtype="FLOAT")),
    ):
        onnx_file = name.replace(".plan", ".onnx")
        path = write_plan(folder, plan, builder=builder, engine=engine, onnx_file=onnx_file)
        shutil.move(sidecar_path(path), sidecar_path(folder / name))
        shutil.move(path, folder / name)
    return folder / "net.plan"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exact_tiles_of_a_plan_equal_the_whole_image(
    version: str, dtype: type[np.uint8], cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install(version, cuda, monkeypatch)
    path = write_plans(tmp_path, version)
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (40, 33, 3), dtype=dtype, endpoint=True)
    image[:20] //= 4  # so that tiles differ in their means
    with Upscaler.open(tmp_path / "net.onnx", tile=64) as whole:
        expected = whole(image)
    with Upscaler.open(path, overlap=3, exact=True) as exact:
        assert exact.device == "TensorRT Fake GPU"
        done: list[int] = []
        result = np.concatenate(list(exact.strips(image, done.append)))
        assert sum(done) == exact.task(image).tile_count
        assert exact.backend.gpu_memory is not None
    assert np.abs(result.astype(int) - expected).max() <= np.iinfo(dtype).max // 255
    assert (cuda.depth, cuda.retained, cuda.allocated, cuda.graphs) == (0, 0, 0, {})
    assert (cuda.launches > 0) == ("rtx" not in version)


def test_an_image_within_one_tile_takes_its_own_means_and_not_those_of_what_continues_it(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    path = write_plans(tmp_path)
    image = np.zeros((9, TILE, 3), np.uint8)
    image[:2] = 200
    with Upscaler.open(tmp_path / "net.onnx") as whole, Upscaler.open(path, exact=True, overlap=3) as exact:
        with caplog.at_level(logging.WARNING):
            assert np.abs(exact(image).astype(int) - whole(image)).max() <= 1
        assert "smaller than the engine's tile of 16x16" in caplog.text
        assert exact.task(image).tile_count == 3
        assert exact.task(np.zeros((TILE, TILE, 3), np.uint8)).tile_count == 1


def test_without_an_exact_plan_the_onnx_is_used(tmp_path: Path) -> None:
    path = write_plans(tmp_path)
    (tmp_path / f"net{EXACT_PLAN_SUFFIX}").unlink()
    with Upscaler.open(path, exact=True) as upscaler:
        assert "ONNX Runtime" in upscaler.device
        assert upscaler.backend.gpu_memory is None


def test_an_exact_plan_of_another_checkpoint_is_refused(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    path = write_plans(tmp_path)
    text = sidecar_path(path).read_text().replace(f'"{info().checkpoint_sha256}"', f'"{"1" * 64}"', 1)
    sidecar_path(path).write_text(text)
    with pytest.raises(ArtefactError, match="another checkpoint"):
        Upscaler.open(path, exact=True)
    assert cuda.retained == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no graph for --exact"),
        ({"more": {"kept": ["INT64", [4]], "means": ["FLOAT", [3]], "given": ["BOOL", [1]]}}, "no graph for --exact"),
        ({"names": ["input", "sr"]}, "takes input, not lr"),
    ],
)
def test_another_plan_under_the_name_of_an_exact_one_is_refused(
    changes: dict[str, object], message: str, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_tensorrt.install("tensorrt-10.3.0", cuda, monkeypatch)
    path = write_plans(tmp_path)
    other = write_plan(tmp_path, plan_bytes((1, TILE, TILE, 3), dtype="FLOAT", **changes))
    exact = tmp_path / f"net{EXACT_PLAN_SUFFIX}"
    shutil.move(sidecar_path(other), sidecar_path(exact))
    shutil.move(other, exact)
    with pytest.raises(ArtefactError, match=message):
        Upscaler.open(path, exact=True)
    sidecar_path(exact).unlink()
    with pytest.raises(ArtefactError, match="has no sidecar" if not changes.get("names") else message):
        Upscaler.open(path, exact=True)
    assert (cuda.retained, cuda.allocated) == (0, 0)


def test_without_a_gpu_the_hint_is_to_run_the_onnx_with_exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeCuda(devices=0).install(monkeypatch)
    path = write_plans(tmp_path)
    with pytest.raises(MissingDependencyError, match="no NVIDIA GPU") as caught:
        Upscaler.open(path, exact=True)
    assert f"--engine {tmp_path / 'net.onnx'} --exact`" in caught.value.hint


@pytest.mark.parametrize("name", [f"net{EXACT_PLAN_SUFFIX}", f"net{EXACT_SUFFIX}"])
def test_an_exact_file_alone_is_no_engine(name: str, tmp_path: Path) -> None:
    write_plans(tmp_path)
    with pytest.raises(ArtefactError, match=r"only serves .*net\.(plan|onnx) with --exact"):
        open_backend(tmp_path / name)
    assert not is_own_engine(tmp_path / name)
