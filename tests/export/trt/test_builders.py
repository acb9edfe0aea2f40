import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from drc_deploy.engine_info import DlaPlacement, PlanOptions, Precision
from drc_deploy.errors import ArtefactError, MissingDependencyError, VerificationError
from drc_deploy.export.export_checkpoint import ExportResult
from drc_deploy.export.trt.builders import BuildOptions, PlanShape, build_plan
from drc_deploy.export.trt.gpu import Gpu
from drc_deploy.export.trt.libraries import Library, LibraryName, find_library
from drc_deploy.export.trt.plan_options import require_options
from drc_deploy.export.trt.timing_cache import timing_cache_path
from tests.export.trt.recorded_binding import RecordedBinding
from tests.tensorrt_api import VERSIONS

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


INT8_ENGINE = (
    '{"Layers": [{"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Four wide vectorized INT8"}], '
    '"Outputs": [{"Format/Datatype": "Row major FP32"}]}]}'
)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_graph_marks_int8_and_the_flag_is_set_only_where_it_exists(version: str) -> None:
    library, binding = _library(version, kinds=("INT8", "FLOAT"), inspection=INT8_ENGINE)
    built = build_plan(library, Path("x.onnx"), "int8", PlanShape((128, 128), 4))
    set_flags = [arguments[0].name for _, name, arguments in binding.calls if name == "set_flag"]
    assert set_flags == (["INT8"] if version == "tensorrt-8.6.1" else [])
    assert library.graph_precision("int8") == "int8"
    assert built.declared.convolutions == {"int8": 1, "fp32": 1}
    assert built.precision.convolutions == ({"int8": 1, "fp32": 1} if "rtx" in version else {"int8": 1})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_graph_without_int8_is_no_int8_plan(version: str) -> None:
    library, _ = _library(version, kinds=("FLOAT",), inspection=INT8_ENGINE.replace("INT8", "FP32"))
    with pytest.raises(VerificationError, match="0 convolutions of the int8 plan"):
        build_plan(library, Path("x.onnx"), "int8", PlanShape((128, 128), 4))


def _workspaces(binding: RecordedBinding) -> list[int]:
    return [arguments[1] for _, name, arguments in binding.calls if name == "set_memory_pool_limit"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cap_on_scratch_memory_is_kept_and_only_rtx_has_none_by_default(version: str) -> None:
    for asked, expected in ((None, [] if "rtx" in version else [2 << 30]), (100, [100 << 20])):
        library, binding = _library(version, kinds=("HALF",), inspection=FP16_ENGINE)
        build_plan(library, Path("x.onnx"), "fp16", PlanShape((128, 128), 4), BuildOptions(workspace_mib=asked))
        assert _workspaces(binding) == expected


def test_too_small_a_cap_is_named_in_the_hint(rtx: Library, exported: ExportResult) -> None:
    with pytest.raises(ArtefactError, match="gave no plan") as caught:
        build_plan(rtx, exported.onnx, "fp16", PlanShape((512, 512), 4), BuildOptions(workspace_mib=1))
    assert "--workspace 1" in caught.value.hint


@pytest.mark.parametrize("version", [version for version in VERSIONS if "rtx" not in version])
@pytest.mark.parametrize(
    ("kept", "attached"),
    [
        (None, [b""]),
        (b"earlier", [b"earlier"]),
        (b"damaged", [b"damaged", b""]),
        (b"another GPU", [b"another GPU", b""]),
    ],
)
def test_what_was_measured_is_used_and_kept(
    version: str, kept: bytes | None, attached: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "x.timing"
    if kept is not None:
        path.parent.mkdir()
        path.write_bytes(kept)
    library, binding = _library(version, kinds=("HALF",), inspection=FP16_ENGINE)
    build_plan(library, Path("x.onnx"), "fp16", PlanShape((128, 128), 4), BuildOptions(timing_cache=path))
    assert [arguments[0] for _, name, arguments in binding.calls if name == "create_timing_cache"] == attached
    assert path.read_bytes() == attached[-1] + b"+measured"


def test_a_cache_that_cannot_be_written_spoils_no_plan(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    library, _ = _library("tensorrt-10.3.0", kinds=("HALF",), inspection=FP16_ENGINE)
    options = BuildOptions(timing_cache=tmp_path / "file" / "x.timing")
    assert build_plan(library, Path("x.onnx"), "fp16", PlanShape((128, 128), 4), options).plan == b"plan"


def test_each_machine_has_a_timing_cache_of_its_own_and_rtx_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gpus = [Gpu("NVIDIA Orin", "8.7", None), Gpu("NVIDIA/../Thor", "11.0", "580")]
    libraries = [_library(version, kinds=())[0] for version in ("tensorrt-10.3.0", "tensorrt-11.4.0")]
    paths = {timing_cache_path(library, gpu) for library in libraries for gpu in gpus}
    assert len(paths) == 4
    assert {path.parent for path in paths if path} == {tmp_path / "drc-deploy"}
    assert timing_cache_path(_library("tensorrt-rtx-1.7.1", kinds=())[0], gpus[0]) is None
    assert timing_cache_path(libraries[0], None) is None


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


def test_the_range_of_a_plan_is_one_that_its_network_takes() -> None:
    assert PlanShape(None, 2).limits() == ((1, 8, 8, 3), (1, 128, 128, 3), (2, 256, 256, 3))
    assert PlanShape(None, 2, range_px=(48, 144, 264)).limits() == ((1, 48, 48, 3), (1, 144, 144, 3), (2, 264, 264, 3))


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


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_no_build_outlives_ctrl_c_in_the_start_of_its_thread(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python waits for no thread in whose start it came."""
    library, _ = _library("tensorrt-10.3.0", kinds=("HALF",))
    at_work: list[str] = []

    class Slow(Library):
        def start_builder(self, logger: Any) -> Any:
            at_work.append("builder")
            time.sleep(0.2)
            at_work.clear()
            return super().start_builder(logger)

    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        time.sleep(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_plan(Slow(library.name, library.module), Path("x.onnx"), "fp16", PlanShape((64, 64), 1))
    assert not at_work
    time.sleep(0.05)
    assert not at_work


@pytest.mark.parametrize("version", [version for version in VERSIONS if "rtx" not in version])
def test_a_plan_for_later_versions_and_other_gpus(version: str) -> None:
    library, binding = _library(version, kinds=("HALF",), inspection=FP16_ENGINE)
    options = PlanOptions(version_compatible=True, hardware_compatible=True)
    build_plan(library, Path("x.onnx"), "fp16", PlanShape((64, 64), 4), BuildOptions(plan=options))
    assert ("IBuilderConfig", "set_flag", (binding.BuilderFlag.VERSION_COMPATIBLE,)) in binding.calls
    assert ("OnnxParser", "set_flag", (binding.OnnxParserFlag.NATIVE_INSTANCENORM,)) in binding.calls
    assert binding.configs[-1].set["hardware_compatibility_level"].name == "AMPERE_PLUS"
    (runtime,) = binding.runtimes
    assert runtime.set == {"engine_host_code_allowed": True}  # else the inspector could not open its own plan


@pytest.mark.parametrize("version", VERSIONS)
def test_without_options_nothing_of_the_kind_is_set(version: str) -> None:
    library, binding = _library(version, kinds=("HALF",), inspection=FP16_ENGINE)
    build_plan(library, Path("x.onnx"), "fp16", PlanShape((64, 64), 4))
    assert not {"hardware_compatibility_level", "DLA_core", "default_device_type"} & set(binding.configs[-1].set)
    assert [runtime.set for runtime in binding.runtimes] == ([] if "rtx" in version else [{}])
    assert not [call for call in binding.calls if call[1] == "set_flag" and call[2][0].name != "FP16"]


DLA_ENGINE = '{"Layers": [{"LayerType": "DLA", "Name": "{ForeignNode[layer_0...layer_2]}", "Outputs": []}, %s]}'
LAST_ON_GPU = '{"LayerType": "CaskConvolution", "Name": "layer_3", "Outputs": [{"Format/Datatype": "Row major FP32"}]}'


@pytest.mark.parametrize("version", [version for version in VERSIONS if "rtx" not in version])
def test_layers_that_fall_back_from_the_dla_are_reported(version: str) -> None:
    kinds = ("HALF", "HALF", "HALF", "FLOAT")
    library, binding = _library(
        version, kinds=kinds, inspection=DLA_ENGINE % LAST_ON_GPU, dla=(True, True, True, False)
    )
    options = BuildOptions(plan=PlanOptions(dla_core=1))
    built = build_plan(library, Path("x.onnx"), "fp16", PlanShape((64, 64), 4, whole_batches=True), options)
    assert built.dla == DlaPlacement(
        ("layer_0", "layer_1", "layer_2"), ("layer_3 (convolution)",), ("{ForeignNode[layer_0...layer_2]}",)
    )
    assert built.precision.convolutions == {"fp16": 3, "fp32": 1}
    config = binding.configs[-1]
    assert (config.set["DLA_core"], config.set["default_device_type"].name) == (1, "DLA")
    assert ("IBuilderConfig", "set_flag", (binding.BuilderFlag.GPU_FALLBACK,)) in binding.calls
    (shapes,) = (arguments[1:] for _, name, arguments in binding.calls if name == "set_shape")
    assert shapes == ((4, 64, 64, 3),) * 3
    assert binding.runtimes[-1].set == {"DLA_core": 1}


def test_an_engine_that_hides_its_layers_leaves_the_placement_of_the_builder() -> None:
    library, _ = _library("tensorrt-8.6.1", kinds=("FLOAT", "FLOAT"), dla=(True, False))
    options = BuildOptions(plan=PlanOptions(dla_core=0))
    built = build_plan(library, Path("x.onnx"), "fp16", PlanShape((64, 64), 1, whole_batches=True), options)
    assert built.dla == DlaPlacement(("layer_0",), ("layer_1 (convolution)",), ())


@pytest.mark.parametrize(("dla", "core", "words"), [(None, 0, "no DLA cores"), ((True,), 2, "2 DLA cores here")])
def test_a_dla_core_that_is_not_there_is_refused(dla: tuple[bool, ...] | None, core: int, words: str) -> None:
    library, _ = _library("tensorrt-10.3.0", kinds=("HALF",), dla=dla)
    with pytest.raises(MissingDependencyError, match=words):
        require_options(library, PlanOptions(dla_core=core))


def test_a_network_that_the_dla_cannot_run_at_all_is_refused() -> None:
    library, _ = _library("tensorrt-10.3.0", kinds=("HALF", "HALF"), dla=(False, False))
    options = BuildOptions(plan=PlanOptions(dla_core=0))
    with pytest.raises(ArtefactError, match="none of the 2 layers"):
        build_plan(library, Path("x.onnx"), "fp16", PlanShape((64, 64), 1, whole_batches=True), options)


REFUSALS = [
    (PlanOptions(version_compatible=True), "only for its own version"),
    (PlanOptions(hardware_compatible=True), "no hardware compatibility"),
    (PlanOptions(dla_core=0), "no DLA cores"),
]


@pytest.mark.parametrize(("options", "words"), REFUSALS)
def test_what_rtx_ignores_or_lacks_is_refused(rtx: Library, options: PlanOptions, words: str) -> None:
    for library in (rtx, _library("tensorrt-rtx-1.7.1", kinds=("HALF",))[0]):
        with pytest.raises(MissingDependencyError, match=words):
            require_options(library, options)


def test_where_the_lean_runtime_is_missing_the_hint_is_of_that(rtx: Library, exported: ExportResult) -> None:
    """Taken for TensorRT, TensorRT-RTX fails as a TensorRT without that library does."""
    with pytest.raises(ArtefactError, match=r"libnvinfer_lean\.so") as caught:
        build_plan(
            dataclasses.replace(rtx, name="tensorrt"),
            exported.onnx,
            "fp16",
            PlanShape((32, 32), 1),
            BuildOptions(plan=PlanOptions(version_compatible=True)),
        )
    assert "lean runtime" in caught.value.hint
