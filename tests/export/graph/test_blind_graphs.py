"""The parts of a blind network against torch, at sizes and batches that were not traced; and their plans."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from drc_deploy.engine_info import is_own_engine, read_sidecar
from drc_deploy.errors import VerificationError
from drc_deploy.export.export_checkpoint import ExportResult, export_checkpoint
from drc_deploy.export.graph import blind_graphs
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest
from drc_deploy.export.trt.plan_from_onnx import build_from_onnx
from drc_deploy.models.dcls import DCLS
from drc_deploy.runtime.backends.blind_parts import open_blind_parts
from drc_deploy.runtime.upscaler import Upscaler
from tests.models.tiny_dcls import save_tiny_dcls


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def request_blind(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> ExportRequest:
    folder = tmp_path_factory.mktemp("blind")
    save_tiny_dcls(folder / "net.safetensors", patch)
    return ExportRequest(folder / "net.safetensors", folder, "net", "fp32", DEFAULT_TILE, 4, None, exact=True)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> DCLS:
    return save_tiny_dcls(tmp_path_factory.mktemp("again") / "net.safetensors", patch)


@pytest.fixture(scope="module")
def exported(request_blind: ExportRequest) -> ExportResult:
    return export_checkpoint(request_blind)


@pytest.mark.parametrize("shape", [(1, 8, 31, 3), (3, 17, 12, 3)])
def test_parts_compute_what_torch_does(exported: ExportResult, network: DCLS, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    batch = random.uniform(0, 255, shape).astype(np.float32)
    kernel = random.uniform(0, 1, (network.kernel_size, network.kernel_size)).astype(np.float32)
    kernel /= kernel.sum()
    planes = torch.from_numpy(batch).permute(0, 3, 1, 2)
    with torch.inference_mode():
        estimates = network.estimate(planes)[:, 0].numpy()
        given = network.restore(planes, torch.from_numpy(kernel)[None, None]).permute(0, 2, 3, 1).numpy()
    with open_blind_parts(exported.parts[0], exported.parts[1], threads=1) as backend:
        (found,) = backend.estimated_kernels([batch])
        restored, own = backend.with_kernel(kernel).run(batch), backend.run(batch)
    np.testing.assert_allclose(found, estimates, atol=1e-6)
    np.testing.assert_allclose(restored, np.clip(given, 0, 255), atol=0.02)
    assert np.abs(own - restored).max() > 0.1  # the kernel matters


@pytest.mark.parametrize("exact", [False, True])
def test_tiles_of_the_export_are_those_of_the_checkpoint(
    exported: ExportResult, request_blind: ExportRequest, exact: bool
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 72, 3), np.uint8)
    results, kernels = [], []
    for path in (exported.onnx, request_blind.checkpoint):
        with Upscaler.open(path, tile=48, exact=exact, threads=1) as upscaler:
            results.append(upscaler(image).astype(int))
            kernels.append(upscaler.kernel(image))
    assert np.abs(results[0] - results[1]).max() <= 1
    assert kernels[0] == pytest.approx(kernels[1], abs=1e-5)


def test_parts_are_no_engines_of_their_own(exported: ExportResult) -> None:
    files = {path.name: is_own_engine(path) for path in exported.onnx.parent.glob("*.onnx")}
    assert [name for name, own in files.items() if own] == ["net.onnx"]
    assert {"net.kernel.onnx", "net.restorer.onnx", "net.exact.onnx", "net.float.onnx"} < set(files)


def test_parts_that_compute_something_else_are_not_kept(
    request_blind: ExportRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blind_graphs, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(VerificationError, match="the parts of the network are"):
        export_checkpoint(dataclasses.replace(request_blind, folder=tmp_path, exact=False))
    assert list(tmp_path.iterdir()) == []


def test_plans_of_all_parts_are_built_of_onnx_files_too(exported: ExportResult, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    for path in (exported.onnx, *exported.parts):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    request = ExportRequest(tmp_path / "net.onnx", tmp_path, "net", "fp32", DEFAULT_TILE, 4, "tensorrt_rtx")
    result = build_from_onnx(request)
    assert [path.name for path in result.parts] == ["net.kernel.plan", "net.restorer.plan"]
    sidecars = [read_sidecar(plan) for plan in (result.plan, *result.parts)]
    assert [sidecar.engine.io_dtype for sidecar in sidecars if sidecar] == ["uint8", "float32", "float32"]
    (tmp_path / "net.kernel.onnx").unlink()
    assert build_from_onnx(request).parts == ()


def test_plans_are_built_of_all_parts(request_blind: ExportRequest, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    request = dataclasses.replace(request_blind, folder=tmp_path, precision="fp16", builder="tensorrt_rtx", exact=False)
    result = export_checkpoint(request)
    assert [path.name for path in result.parts[2:]] == ["net.kernel.plan", "net.restorer.plan"]
    for plan in (result.plan, *result.parts[2:]):
        assert plan is not None
        sidecar = read_sidecar(plan)
        assert sidecar is not None
        assert sidecar.engine.kernel_size == 7
        assert not is_own_engine(plan) or plan.name == "net.plan"
        assert sidecar.layers_by_precision["fp32"] > 0
