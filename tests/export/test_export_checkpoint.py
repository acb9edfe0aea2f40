import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from drc_deploy.checkpoint import load_checkpoint, save_checkpoint
from drc_deploy.engine_info import EngineInfo, read_sidecar
from drc_deploy.errors import ArtefactError, DrcDeployError, OutputError, UsageError, VerificationError
from drc_deploy.export import export_checkpoint as export_module
from drc_deploy.export.export_checkpoint import Body, ExportResult, export_checkpoint, make_body
from drc_deploy.export.request import ExportRequest, parse_tile
from drc_deploy.files import sha256_of
from drc_deploy.models.drn import DRN
from tests.export.networks import Toy


def _info(path: Path) -> EngineInfo:
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return EngineInfo.from_metadata(properties, path)


def test_the_sidecar_ties_plan_onnx_and_checkpoint_together(
    exported: ExportResult, request_fp16: ExportRequest
) -> None:
    assert exported.plan is not None
    sidecar = read_sidecar(exported.plan)
    assert sidecar is not None
    assert sidecar.plan_sha256 == sha256_of(exported.plan)
    assert sidecar.onnx_sha256 == sha256_of(exported.plan.with_name(sidecar.onnx_file))
    assert sidecar.engine.checkpoint_sha256 == sha256_of(request_fp16.checkpoint)
    assert (sidecar.engine.tile, sidecar.engine.precision, sidecar.precision_source) == ((128, 128), "fp16", "graph")
    assert sidecar.layers_by_precision["fp16"] > sidecar.layers_by_precision["fp32"]
    assert sidecar.verification["rounded"]["psnr_db"] >= 50


def test_the_sides_that_a_network_takes_are_those_of_its_engines(
    request_fp16: ExportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "multiple_of", 8)
    monkeypatch.setattr(Toy, "minimum", 20)
    info = export_module._describe(request_fp16, Toy(), "0" * 64)
    assert (info.multiple_of, info.minimum, info.tile) == (8, 20, (128, 128))


def test_a_tile_that_the_network_does_not_take_is_refused_before_anything_is_traced(
    request_here: ExportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DRN, "multiple_of", 8)
    monkeypatch.setattr(export_module, "make_body", None)
    with pytest.raises(UsageError, match="no tile of 100x96: both sides must be multiples of 8"):
        export_checkpoint(dataclasses.replace(request_here, tile=parse_tile("100x96")))
    assert not list(request_here.folder.iterdir())


def test_the_onnx_files_say_what_they_are(exported: ExportResult) -> None:
    info = _info(exported.onnx)
    assert (info.io_dtype, info.precision, info.tile, info.scale) == ("uint8", "fp16", None, 4)
    assert info == dataclasses.replace(_info(exported.float_onnx), io_dtype="uint8")


def test_weights_are_half_except_where_the_network_keeps_float(exported: ExportResult) -> None:
    kinds = {value.name: value.data_type for value in onnx.load(exported.onnx).graph.initializer}
    half = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16}
    assert any("up_blocks" in name for name in half)
    assert not any(part in name for name in half for part in ("mean", "tail.2"))


def test_set5_through_onnx_runtime_is_what_torch_computes(
    exported: ExportResult, request_fp16: ExportRequest, benchmark_data: Path
) -> None:
    network = load_checkpoint(request_fp16.checkpoint).build_network()
    session = onnxruntime.InferenceSession(exported.onnx)
    for path in sorted((benchmark_data / "Set5" / "LRx4").glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB"))[None]
        with torch.no_grad():
            sr = network.upscale(torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2))
        expected = sr.permute(0, 2, 3, 1).clamp(0, 255).add(0.5).floor().numpy()
        (found,) = session.run(None, {"lr": pixels})
        assert np.abs(found - expected).max() <= 1
        assert np.mean(found != expected) < 0.05


def test_a_checkpoint_that_is_replaced_meanwhile_does_not_change_the_hash(
    request_here: ExportRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = dataclasses.replace(request_here, checkpoint=tmp_path / "copy.safetensors", precision="fp32")
    shutil.copy(request_here.checkpoint, request.checkpoint)

    def replace_first(*arguments: Any) -> Body:
        request.checkpoint.write_bytes(b"another")
        return make_body(*arguments)

    monkeypatch.setattr("drc_deploy.export.export_checkpoint.make_body", replace_first)
    assert _info(export_checkpoint(request).onnx).checkpoint_sha256 == sha256_of(request_here.checkpoint)


def test_a_fixed_tile_is_in_the_files_and_in_nothing_but_their_shapes(
    request_here: ExportRequest, exported: ExportResult
) -> None:
    fixed = export_checkpoint(dataclasses.replace(request_here, tile=parse_tile("20x28")))
    assert fixed.plan is None
    model, free = onnx.load(fixed.onnx), onnx.load(exported.onnx)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [0, 20, 28, 3]
    assert list(model.graph.node) == list(free.graph.node)
    assert _info(fixed.float_onnx).tile == (20, 28)


def test_a_network_that_overflows_throughout_names_the_layer_and_leaves_the_old_files(
    request_here: ExportRequest,
) -> None:
    checkpoint = load_checkpoint(request_here.checkpoint)
    weights = dict(checkpoint.weights)
    weights["head.weight"] = weights["head.weight"] * 1e5
    path = request_here.folder / "hot.safetensors"
    save_checkpoint(path, dataclasses.replace(checkpoint, weights=weights))
    (request_here.folder / "net.onnx").write_text("old")
    with pytest.raises(VerificationError, match=r"layers would have to stay in float32. First layer at fault: head"):
        export_checkpoint(dataclasses.replace(request_here, checkpoint=path))
    assert (request_here.folder / "net.onnx").read_text() == "old"
    assert sorted(os.listdir(request_here.folder)) == ["hot.safetensors", "net.onnx"]


def test_nan_weights_are_refused_before_anything_is_written(request_here: ExportRequest) -> None:
    with safe_open(request_here.checkpoint, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    tensors["primal.head.weight"].fill_(float("nan"))
    checksum = re.compile(r'"weights_sha256": ?"\w+"')
    metadata["drc_deploy"] = checksum.sub('"weights_sha256": null', metadata["drc_deploy"])  # as older files have it
    path = request_here.folder / "nan.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ArtefactError, match=r"head\.weight.*NaN"):
        export_checkpoint(dataclasses.replace(request_here, checkpoint=path))
    assert os.listdir(request_here.folder) == ["nan.safetensors"]


def test_a_folder_that_cannot_be_made_is_a_sentence(request_here: ExportRequest) -> None:
    (request_here.folder / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write") as caught:
        export_checkpoint(dataclasses.replace(request_here, folder=request_here.folder / "file" / "sub"))
    assert isinstance(caught.value, DrcDeployError)
