from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import torch

from drc_deploy.engine_info import IoDtype
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.graph.graph import trace_graph
from drc_deploy.export.graph.variants import make_variant
from drc_deploy.export.precision.sparing import PrecisionChoice, choose_precision
from drc_deploy.export.verify.verification import verify_onnx
from tests.export.networks import Toy, graph_of, toy_info

FP32 = PrecisionChoice("fp32")


@pytest.fixture(scope="module")
def toy() -> Toy:
    torch.manual_seed(1)
    return Toy()


@pytest.fixture(scope="module")
def files(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Mapping[IoDtype, Path]:
    folder = tmp_path_factory.mktemp("toy")
    body = trace_graph(pixel_network(toy))
    paths: dict[IoDtype, Path] = {"uint8": folder / "a.onnx", "float32": folder / "a.float.onnx"}
    for io_dtype, path in paths.items():
        onnx.save(make_variant(body, toy_info(io_dtype)), path)
    return paths


def test_a_faithful_export_passes_with_figures(toy: Toy, files: Mapping[IoDtype, Path]) -> None:
    found = verify_onnx(toy, files, FP32, toy_info("uint8"))
    assert found.onnx_float.psnr_db > 100
    assert found.onnx_uint8.max_difference <= 1
    assert found.rounded is None
    assert found.shapes == ((1, 23, 31, 3), (3, 19, 26, 3))


def test_fp16_is_judged_with_every_result_rounded_too(toy: Toy, files: Mapping[IoDtype, Path]) -> None:
    choice, _ = choose_precision(toy, graph_of(toy), "fp16", toy_info("uint8"))
    found = verify_onnx(toy, files, choice, toy_info("uint8"))
    assert found.rounded is not None
    assert 50 < found.rounded.psnr_db < found.onnx_float.psnr_db
    assert "float32 on a CPU" in found.note


def test_another_networks_files_fail_with_the_measure(files: Mapping[IoDtype, Path]) -> None:
    with pytest.raises(VerificationError, match=r"the ONNX graph in ONNX Runtime .* needed are 60 dB"):
        verify_onnx(Toy(), files, FP32, toy_info("uint8"))


def test_a_wrong_uint8_graph_is_found_next_to_a_right_float_graph(
    toy: Toy, files: Mapping[IoDtype, Path], tmp_path: Path
) -> None:
    model = onnx.load(files["uint8"])
    next(value for value in model.graph.initializer if value.name == "half").CopyFrom(
        onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, (), [3.0])
    )
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(VerificationError, match="uint8 graph is off by 3"):
        verify_onnx(toy, {**files, "uint8": tmp_path / "bad.onnx"}, FP32, toy_info("uint8"))


def test_a_network_that_returns_nan_in_float32_is_an_error(files: Mapping[IoDtype, Path]) -> None:
    network = Toy()
    with torch.no_grad():
        network.inner.weight.fill_(3e38)
    with pytest.raises(VerificationError, match=r"in float32\. First layer at fault: network\.inner"):
        verify_onnx(network, files, FP32, toy_info("uint8"))
