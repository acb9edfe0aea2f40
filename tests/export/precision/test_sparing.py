import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.cli.commands.export_command import command as export_command
from drc_deploy.errors import VerificationError
from drc_deploy.export.graph.graph_edit import layer_of
from drc_deploy.export.graph.variants import make_variant
from drc_deploy.export.precision.sparing import PrecisionChoice, SparedLayer, choose_precision, measure_ranges
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.plan_export import PlanBuilder
from drc_deploy.export.verify.verification import verify_onnx
from drc_deploy.locate import SHIPPED
from tests.export.networks import Cancels, Toy, graph_of, toy_info
from tests.export.trt.recorded_binding import RecordedBinding


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def test_the_one_layer_that_overflows_is_spared_and_said_so(tmp_path: Path) -> None:
    network = Toy(gain=1e4)
    choice, body = choose_precision(network, graph_of(network), "fp16", toy_info("uint8"))
    (spared,) = choice.spared
    assert spared.layer == "inner"
    assert "where 3.28e+04 is safe" in spared.reason
    assert choice.agreement is not None
    assert choice.agreement.psnr_db > 60

    kinds = {value.name: value.data_type for value in body.graph.initializer}
    assert kinds["network.inner.weight"] == kinds["network.tail.weight"] == onnx.TensorProto.FLOAT
    assert kinds["network.head.weight"] == onnx.TensorProto.FLOAT16
    files = {"uint8": tmp_path / "a.onnx", "float32": tmp_path / "a.float.onnx"}
    for io_dtype, path in files.items():
        onnx.save(make_variant(body, toy_info(io_dtype)), path)  # type: ignore[arg-type]
    assert verify_onnx(network, files, choice, toy_info("uint8")).spared_layers == choice.spared  # type: ignore[arg-type]


@pytest.mark.parametrize("guilty", [0, 2, 4])
def test_the_one_layer_that_loses_the_image_is_found_by_bisection(guilty: int) -> None:
    network = Cancels([guilty])
    choice, _ = choose_precision(network, graph_of(network), "fp16", toy_info("uint8"))
    assert [spared.layer for spared in choice.spared] == [f"chain.{guilty}"]
    assert "largest part in an error of" in choice.spared[0].reason


def test_two_such_layers_are_both_found() -> None:
    network = Cancels([1, 3])
    choice, _ = choose_precision(network, graph_of(network), "fp16", toy_info("uint8"))
    assert {spared.layer for spared in choice.spared} == {"chain.1", "chain.3"}


def test_a_network_with_too_many_such_layers_fails_with_the_first() -> None:
    network = Cancels([0, 1, 2, 3])
    with pytest.raises(VerificationError, match=r"needed are 50 dB.*First layer at fault: chain\.0") as caught:
        choose_precision(network, graph_of(network), "fp16", toy_info("uint8"))
    assert "fp32" in caught.value.hint


@pytest.mark.parametrize("name", ["drn_xs", "drn_xs_r30"])
def test_drn_needs_no_more_than_it_declares(name: str) -> None:
    network = load_checkpoint(SHIPPED / f"{name}.safetensors").build_network()
    choice, _ = choose_precision(network, graph_of(network), "fp16", toy_info("uint8"))
    assert choice.spared == ()
    assert choice.agreement is not None
    assert choice.agreement.psnr_db > 70


def test_float32_needs_no_choice() -> None:
    network = Toy()
    graph = graph_of(network)
    choice, same = choose_precision(network, graph, "fp32", toy_info("uint8"))
    assert choice.agreement is None
    assert same is graph


@pytest.mark.parametrize(
    ("weight", "levels", "largest"),
    [
        (-2, (10, 100, 20), (199, 399, 797)),  # outputs: -2 * 100 + 1
        (-2, (0,), (2, 2, 3)),  # weights, and the last output
        (0, (10, 100, 20), (100, 1, 1)),  # the input of the first layer
    ],
)
def test_ranges_are_the_largest_magnitudes_at_each_layer(
    weight: float, levels: tuple[int, ...], largest: tuple[float, ...]
) -> None:
    network, names = Toy(), ("head", "inner", "tail")
    with torch.no_grad():
        for name in names:
            layer = network.convolution(name)
            layer.weight.zero_()
            layer.weight[:, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = weight
            layer.bias.fill_(1)  # type: ignore[union-attr]
    images = [np.full((1, 2, 2, 3), level, np.uint8) for level in levels]
    graph = graph_of(network)
    found = measure_ranges(graph, images)
    layers = {layer_of(node): found[node.output[0]] for node in graph.graph.node if node.op_type == "Conv"}
    assert layers == dict(zip(names, largest, strict=True))


def test_what_is_spared_is_in_the_record_and_in_the_text_of_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc_deploy.export.precision.sparing.SAFE_SHARE", 1000 / 65504)  # two convolutions go beyond
    result = CliRunner().invoke(export_command, ["drn_xs", "--precision", "fp16", "--workdir", str(tmp_path), "--json"])
    spared = json.loads(result.stdout)["verification"]["spared_layers"]
    # The ReLU behind each reads what the convolution gives.
    assert {f"up_blocks.{stage}.3.body.{index}" for stage in (0, 1) for index in (0, 1)} == {
        each["layer"] for each in spared
    }
    kinds = {value.name: value.data_type for value in onnx.load(tmp_path / "drn_xs.onnx").graph.initializer}
    assert kinds["network.up_blocks.1.3.body.0.weight"] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in kinds.values()
    text = CliRunner().invoke(export_command, ["drn_xs", "--precision", "fp16", "--workdir", str(tmp_path)]).output
    assert text.count("Stays in float32: ") == len(spared)


def test_a_library_that_chooses_precisions_by_itself_cannot_spare() -> None:
    choice = PrecisionChoice("fp16", (SparedLayer("inner", "whose numbers are large"),))
    old, new = (
        PlanBuilder(Library("tensorrt", RecordedBinding(version, kinds=())), None)
        for version in ("tensorrt-8.6.1", "tensorrt-10.3.0")
    )
    assert new.graph_precision(choice) == "fp16"
    assert old.graph_precision(PrecisionChoice("fp16")) == "fp32"
    with pytest.raises(VerificationError, match=r"inner must stay in float32 .*8\.6\.1 chooses"):
        old.graph_precision(choice)
