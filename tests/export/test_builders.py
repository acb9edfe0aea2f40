import dataclasses
import os
import signal
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from drc_deploy.engine_info import Precision
from drc_deploy.errors import ArtefactError, VerificationError
from drc_deploy.export.builders import PlanShape, build_plan
from drc_deploy.export.libraries import Library, LibraryName, find_library
from drc_deploy.export.pipeline import ExportResult
from tests.export.recorded_binding import VERSIONS, RecordedBinding

FP16_ENGINE = '{"Layers": [{"LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Row major FP16"}]}]}'


@pytest.fixture
def rtx() -> Library:
    pytest.importorskip("tensorrt_rtx")
    return find_library("tensorrt_rtx", None)


def _library(version: str, **options: Any) -> tuple[Library, RecordedBinding]:
    binding = RecordedBinding(version, **options)
    name: LibraryName = "tensorrt_rtx" if "rtx" in version else "tensorrt"
    return Library(name, binding), binding


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_every_attribute_that_a_build_touches_exists(version: str, precision: Precision) -> None:
    kind = "HALF" if precision == "fp16" else "FLOAT"
    inspection = FP16_ENGINE if precision == "fp16" else FP16_ENGINE.replace("FP16", "FP32")
    library, _ = _library(version, kinds=(kind, kind), inspection=inspection)
    built = build_plan(library, Path("x.onnx"), precision, PlanShape((128, 128), 4))
    assert built.plan == b"plan"
    assert built.precision.source == ("graph" if "rtx" in version else "engine")


@pytest.mark.parametrize(
    ("version", "flags", "sets_fp16"),
    [
        ("tensorrt-8.6.1", 1 << 0, True),  # EXPLICIT_BATCH
        ("tensorrt-10.3.0", 1 << 1, False),  # STRONGLY_TYPED
        ("tensorrt-10.16.1", 1 << 1, False),
        ("tensorrt-11.4.0", 0, False),  # nothing else exists
        ("tensorrt-rtx-1.7.1", 0, False),
    ],
)
def test_precision_comes_from_the_graph_or_from_the_flag_of_tensorrt_8(
    version: str, flags: int, sets_fp16: bool
) -> None:
    library, binding = _library(version, kinds=("HALF",), inspection=FP16_ENGINE)
    build_plan(library, Path("x.onnx"), "fp16", PlanShape((128, 128), 4))
    assert ("Builder", "create_network", (flags,)) in binding.calls
    set_flags = [arguments[0].name for _, name, arguments in binding.calls if name == "set_flag"]
    assert set_flags == (["FP16"] if sets_fp16 else [])
    assert library.graph_precision("fp16") == ("fp32" if sets_fp16 else "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float32_layers_are_not_computed_in_tf32(precision: Precision) -> None:
    inspection = FP16_ENGINE.replace("16", precision.removeprefix("fp"))
    library, binding = _library("tensorrt-10.3.0", kinds=("FLOAT",), inspection=inspection)
    build_plan(library, Path("x.onnx"), precision, PlanShape((128, 128), 4))
    assert ("IBuilderConfig", "clear_flag", (binding.BuilderFlag.TF32,)) in binding.calls


def test_an_engine_that_fell_back_to_fp32_is_refused() -> None:
    library, _ = _library("tensorrt-8.6.1", kinds=("FLOAT",), inspection=FP16_ENGINE.replace("FP16", "FP32"))
    with pytest.raises(VerificationError, match="only 0 of 1 convolutions of the fp16 plan"):
        build_plan(library, Path("x.onnx"), "fp16", PlanShape((128, 128), 4))


def test_a_plan_of_free_size_is_built_for_a_range(rtx: Library, exported: ExportResult) -> None:
    built = build_plan(rtx, exported.onnx, "fp16", PlanShape(None, 2))
    assert built.plan[:4] == b"vtrt"
    assert built.precision.convolutions == {"fp16": 39, "fp32": 2}


def test_the_precision_is_that_of_the_graph_and_not_what_was_asked(rtx: Library, exported: ExportResult) -> None:
    with pytest.raises(VerificationError, match="only 2 of 41 convolutions of the fp32 plan"):
        build_plan(rtx, exported.onnx, "fp32", PlanShape((32, 32), 1))


def _save(path: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> Path:
    pixels: list[str | int | None] = ["n", "h", "w", 3]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("lr", TensorProto.UINT8, pixels)],
        [helper.make_tensor_value_info("sr", TensorProto.UINT8, None)],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_parser_error_names_the_node_in_the_librarys_words(rtx: Library, tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["lr"], ["sr"], "turn", perm=[0, 3, 1, 2])]
    with pytest.raises(ArtefactError, match=r"turn.*first input has type UInt8") as caught:
        build_plan(rtx, _save(tmp_path / "bad.onnx", nodes, []), "fp16", PlanShape((16, 16), 1))
    assert "\n" not in caught.value.message


def test_a_build_without_a_plan_is_an_error_in_the_librarys_words(rtx: Library, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["lr"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "shape"], ["burnt"], "burn"),
        helper.make_node("Cast", ["burnt"], ["sr"], to=TensorProto.UINT8),
    ]
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [2, 16, 16, 3])
    path = _save(tmp_path / "burnt.onnx", nodes, [shape])
    with pytest.raises(ArtefactError, match=r"gave no plan.*reshape would change volume"):
        build_plan(rtx, path, "fp16", PlanShape((16, 16), 4))


def test_ctrl_c_stops_a_build(rtx: Library, exported: ExportResult) -> None:
    def interrupt_at_next_phase(library: Library) -> Library:
        class Monitor(library.module.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()

        module = type("Module", (), {"__getattr__": lambda _, name: getattr(library.module, name)})()
        module.IProgressMonitor = Monitor
        return dataclasses.replace(library, module=module)

    with pytest.raises(KeyboardInterrupt):
        build_plan(interrupt_at_next_phase(rtx), exported.onnx, "fp16", PlanShape((128, 128), 4))
