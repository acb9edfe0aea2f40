"""One real export, shared by the tests that look at its files."""

import dataclasses
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.export.export_checkpoint import ExportResult, export_checkpoint
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network


@pytest.fixture(scope="session")
def request_fp16(tmp_path_factory: pytest.TempPathFactory) -> ExportRequest:
    """A request over a randomly initialised checkpoint."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    save_checkpoint(folder / "net.safetensors", Checkpoint.of(build_network(ModelSpec("drn_xs", 4))))
    return ExportRequest(folder / "net.safetensors", folder, "net", "fp16", DEFAULT_TILE, 4, "tensorrt_rtx")


@pytest.fixture(scope="session")
def exported(request_fp16: ExportRequest) -> ExportResult:
    """FP16 ONNX files and a plan of a random DRN-XS."""
    pytest.importorskip("tensorrt_rtx")
    return export_checkpoint(request_fp16)


@pytest.fixture
def request_here(request_fp16: ExportRequest, tmp_path: Path) -> ExportRequest:
    """The same request into an empty folder, without a plan."""
    return dataclasses.replace(request_fp16, folder=tmp_path, builder=None)
