"""ONNX files that run on without end, ask for any memory, or read other files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drc_deploy.errors import ArtefactError
from drc_deploy.onnx_metadata import check_plain_graph
from tests.cli.commands import drc
from tests.runtime.networks import write_nearest

FOREVER = 1 << 62


def constant(name: str, values: object, dtype: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def loop() -> onnx.NodeProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["count", "step"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, []),
        ],
    )
    return helper.make_node("Loop", ["forever", "yes", "zero"], ["counted"], body=body)


def branch() -> onnx.NodeProto:
    inside = helper.make_graph([loop()], "a", [], [helper.make_tensor_value_info("counted", TensorProto.INT64, [])])
    return helper.make_node("If", ["yes"], ["counted"], then_branch=inside, else_branch=inside)


def scan() -> onnx.NodeProto:
    side = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["i"], ["o"])],
        "b",
        [side],
        [helper.make_tensor_value_info("o", TensorProto.INT64, [])],
    )
    return helper.make_node("Scan", ["many"], ["scanned"], body=body, num_scan_inputs=1)


def add_nodes(path: Path, *nodes: onnx.NodeProto) -> None:
    """Add nodes in front of those of an engine that works."""
    model = onnx.load(path)
    kept = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(
        [constant("forever", FOREVER), constant("yes", True, np.bool_), constant("zero", 0), constant("many", [1, 2])]
    )
    onnx.save(model, path)


def add_function(path: Path) -> None:
    """Hide a loop in a function that a node calls."""
    model = onnx.load(path)
    imports = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Constant", [], ["forever"], value=constant("c", FOREVER))]
    body += [helper.make_node("Constant", [], ["yes"], value=constant("d", True, np.bool_)), loop()]
    model.functions.append(helper.make_function("own", "Endless", ["zero"], ["counted"], body, imports))
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, path)
    add_nodes(path, helper.make_node("Endless", ["zero"], ["counted"], domain="own"))


def add_external(path: Path) -> None:
    """Let weights lie in another file, which is there."""
    path.with_name("private").write_bytes(bytes(64))
    model = onnx.load(path)
    tensor = constant("other", [0] * 8)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="private")
    model.graph.initializer.append(tensor)
    onnx.save_model(model, path)


def write_with_high_bits(path: Path) -> None:
    """Write the graph as a field whose number has bits that other readers drop."""
    add_nodes(path, loop())
    model = onnx.load(path)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    size = b"".join(bytes([0x80 | len(graph) >> shift & 0x7F]) for shift in (0, 7, 14)) + bytes([len(graph) >> 21])
    path.write_bytes(model.SerializeToString() + bytes([0xBA, 0x80, 0x80, 0x80, 0x10]) + size + graph)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "loop": (lambda path: add_nodes(path, loop()), "has a loop or a branch"),
    "branch": (lambda path: add_nodes(path, branch()), "has a loop or a branch"),
    "scan": (lambda path: add_nodes(path, scan()), "has a loop or a branch"),
    "function": (add_function, "has a loop or a branch"),
    "high bits": (write_with_high_bits, "has a loop or a branch"),
    "external": (add_external, "has weights that lie in other files"),
}


@pytest.fixture
def engine(tmp_path: Path, photograph: Path) -> Path:
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "a.png").symlink_to(photograph)
    return tmp_path / "n.onnx"


def test_an_engine_that_works_is_plain(engine: Path) -> None:
    check_plain_graph(engine)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_network_does_is_found_wherever_it_is(engine: Path, kind: str) -> None:
    change, message = REFUSED[kind]
    change(engine)
    with pytest.raises(ArtefactError, match=message):
        check_plain_graph(engine)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize(
    "words",
    [
        ("info", "n.onnx"),
        ("upscale", "a.png", "-o", "b.png", "--engine", "n.onnx"),
        ("bench", "n.onnx", "--size", "16x16", "--min-seconds", "0", "--min-runs", "1"),
        ("verify", "n.onnx", "--checkpoint", "drn_xs"),
        ("eval", "n.onnx", "--data", "."),
        ("export", "n.onnx", "--trt", "fp32"),
    ],
    ids=lambda words: str(words[0]),
)
def test_every_command_refuses_it(engine: Path, kind: str, words: tuple[str, ...]) -> None:
    change, message = REFUSED[kind]
    change(engine)
    if words[0] == "eval":
        (engine.parent / "HR").mkdir()
        (engine.parent / "HR/a.png").symlink_to(engine.parent / "a.png")
    done = drc(*words, cwd=engine.parent)
    assert done.returncode == 1
    said = done.stderr + done.stdout
    assert message in said or (kind == "high bits" and "is not a readable ONNX file" in said)  # by the onnx package
    assert not (engine.parent / "b.png").exists()


LIMITED = """
import sys
import drc_deploy.runtime.memory.host as host
import drc_deploy.runtime.backends.ort.providers as providers
providers.available_bytes = lambda: 1 << 30
from drc_deploy.cli.main import main
main(["upscale", "a.png", "-o", "b.png", "--engine", "n.onnx"])
"""


@pytest.mark.parametrize("size", [1 << 29, 1 << 34, 1 << 50, FOREVER])
@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile"])
def test_a_graph_that_asks_for_more_memory_than_there_is_is_a_sentence(engine: Path, operator: str, size: int) -> None:
    model = onnx.load(engine)
    kept = list(model.graph.node)
    first = model.graph.input[0].name
    zero = [
        helper.make_node("ReduceMin", ["ones"], ["zero"], keepdims=1),
        helper.make_node("Cast", ["zero"], ["byte"], to=TensorProto.UINT8),
        helper.make_node("Mul", [first, "byte"], ["images"]),
    ]
    inputs = ["size"] if operator == "ConstantOfShape" else ["one", "size"]
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = "images" if name == first else name
    del model.graph.node[:]
    model.graph.node.extend([helper.make_node(operator, inputs, ["ones"]), *zero, *kept])
    model.graph.initializer.extend([constant("size", [size]), constant("one", [1.0], np.float32)])
    onnx.save(model, engine)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=engine.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Error: ONNX Runtime c" in done.stderr
    assert not (engine.parent / "b.png").exists()
