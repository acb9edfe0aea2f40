import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from drc_deploy.bench.measure.layer_times import KERNEL, ONNX_ON_CPU, layer_times, profile_layers
from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME
from drc_deploy.runtime.backends.contract import Backend, LayerRun, Pixels
from tests.patience import PATIENCE_S
from tests.runtime.fake_backend import FakeBackend, fake_info

IMAGE = np.random.default_rng(0).integers(0, 256, (200, 64, 3), np.uint8)


def event(name: str, index: int, microseconds: int, category: str = "Node") -> dict[str, Any]:
    args = {"node_index": str(index), "op_name": "Conv"}
    return {"cat": category, "name": name + KERNEL, "dur": microseconds, "args": args}


def told_by(device: str, **info: Any) -> Backend:
    """Return a backend that says what it computes on."""

    class Elsewhere(FakeBackend):
        @property
        def device(self) -> str:
            return device

    return Elsewhere(fake_info(**info))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A small convolution, and one of sixty-four times as many multiplications."""
    rng = np.random.default_rng(0)

    def weights(name: str, out: int, channels: int) -> TensorProto:
        values = rng.normal(size=(out, channels, 3, 3)).astype(np.float32)
        return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.ravel())

    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["float"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], name="turn", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w1"], ["wide"], name="small", pads=[1] * 4),
        helper.make_node("Conv", ["wide", "w2"], [OUTPUT_NAME], name="large", pads=[1] * 4),
    ]
    sides = ["n", "h", "w"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [*sides, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, None)],
        [weights("w1", 64, 3), weights("w2", 192, 64)],
    )
    path = tmp_path / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_layer_that_multiplies_more_takes_longer(network: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(network.parent.iterdir())
    profile = profile_layers(network, told_by(ONNX_ON_CPU), IMAGE, 1)
    times = {layer.name.removesuffix("_nchwc"): layer.fastest_ms for layer in profile.layers}
    assert times[OUTPUT_NAME] > 4 * times["wide"] > 0  # ONNX Runtime calls them by what they give
    assert "64x128 pixels" in profile.note  # of 200 rows the middle 128
    assert set(network.parent.iterdir()) == before
    assert capfd.readouterr().out == ""


def test_an_engine_for_sixteen_bits_is_fed_with_what_it_takes(tmp_path: Path) -> None:
    floats = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["n", "h", "w", 3])
    given = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Neg", [INPUT_NAME], [OUTPUT_NAME])], "g", [floats], [given])
    path = tmp_path / "network.float.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    profile = profile_layers(path, told_by(ONNX_ON_CPU, io_dtype="float32", tile=(8, 16)), IMAGE, None)
    assert [layer.operation for layer in profile.layers] == ["Neg"]
    assert "16x8 pixels" in profile.note


def test_the_first_run_of_a_layer_counts_for_nothing_and_the_fastest_of_the_others_does() -> None:
    runs = [event("a", 3, 1), event("b", 4, 100), event("a", 3, 2000), event("b", 4, 50), event("a", 3, 1500)]
    noise = [event("a", 3, 5, category="Session"), {"cat": "Node", "name": "a_fence_before", "dur": 1, "args": {}}]
    layers = layer_times([*runs, *noise])
    assert [(layer.name, layer.operation, layer.fastest_ms) for layer in layers] == [
        ("a", "Conv", 1.5),
        ("b", "Conv", 0.05),
    ]


def test_two_layers_of_one_name_are_two() -> None:
    assert len(layer_times([event("a", index, 10) for index in (1, 2, 1, 2)])) == 2


def test_a_backend_that_times_its_layers_is_asked(tmp_path: Path) -> None:
    times = [[9.0, 0.1], [3.0, 2.0], [4.0, 1.0], [5.0, 3.0], [6.0, 3.0], [7.0, 3.0]]
    asked: list[tuple[tuple[int, ...], int]] = []

    class Plan(FakeBackend):
        def time_layers(self, batch: Pixels, runs: int) -> list[list[LayerRun]]:
            asked.append((batch.shape, runs))
            return [[LayerRun("a", "Conv", a), LayerRun("b", "layer", b)] for a, b in times]

    profile = profile_layers(tmp_path / "x.plan", Plan(fake_info(tile=(8, 16))), IMAGE, None)
    assert asked == [((1, 8, 16, 3), len(times))]
    assert [(layer.name, layer.operation, layer.fastest_ms) for layer in profile.layers] == [
        ("a", "Conv", 3.0),
        ("b", "layer", 1.0),
    ]
    assert "16x8 pixels" in profile.note


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("ONNX Runtime CUDAExecutionProvider", "queued"),
        ("ONNX Runtime OpenVINOExecutionProvider", "one node"),
        ("torch cpu", "export it"),
        ("abacus", "abacus does not report them"),
    ],
)
def test_a_device_that_does_not_show_says_why(device: str, words: str) -> None:
    profile = profile_layers(Path("none.onnx"), told_by(device), IMAGE, None)
    assert profile.layers == ()
    assert profile.note.startswith("unavailable: ")
    assert words in profile.note


def test_finding_out_that_there_is_no_profile_imports_no_onnx_runtime() -> None:
    code = (
        "import sys, numpy; from pathlib import Path; from drc_deploy.bench.measure.layer_times import profile_layers;"
        "from tests.runtime.fake_backend import FakeBackend, fake_info;"
        "profile_layers(Path('x'), FakeBackend(fake_info()), numpy.zeros((8, 8, 3), numpy.uint8), None);"
        "assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)
