"""One real export, shared by the tests that look at its files."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from drc_deploy.checkpoint import Checkpoint, save_checkpoint
from drc_deploy.export.export_checkpoint import Body, ExportResult, export_checkpoint, make_body
from drc_deploy.export.precision import sparing
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest
from drc_deploy.export.trt.plan_export import PlanBuilder
from drc_deploy.files import sha256_of
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.registry import build_network


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    """Trace every checkpoint once in each precision: that takes most of the time of an export."""
    bodies: dict[object, Body] = {}

    def make_once(network: SRNetwork, request: ExportRequest, builder: PlanBuilder | None) -> Body:
        precision = builder.library.graph_precision(request.precision) if builder else request.precision
        checkpoint, limit = sha256_of(request.checkpoint), sparing.SAFE_SHARE
        key = checkpoint, limit, request.precision, precision, request.max_batch, request.calibrate
        if request.precision == "int8" or key not in bodies:
            bodies[key] = make_body(network, request, builder)
        return bodies[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drc_deploy.export.export_checkpoint.make_body", make_once)
        yield


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
