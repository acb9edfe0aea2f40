import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from drc_deploy.engine_info import EngineInfo, PlanOptions, read_sidecar
from drc_deploy.errors import ArtefactError, MissingDependencyError, OutputError, UsageError, VerificationError
from drc_deploy.export.export_checkpoint import ExportResult
from drc_deploy.export.graph.variants import describe
from drc_deploy.export.request import DEFAULT_TILE, ExportRequest, parse_tile
from drc_deploy.export.triton.model_folder import ModelFolder
from drc_deploy.export.trt import plan_export, plan_from_onnx
from drc_deploy.export.trt.gpu import Gpu
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.plan_export import PlanBuilder
from drc_deploy.export.trt.plan_from_onnx import build_from_onnx, read_exported_info
from drc_deploy.export.verify import onnx_check
from drc_deploy.export.verify.onnx_check import OnnxVerification, verify_against_onnx
from drc_deploy.files import sha256_of
from drc_deploy.runtime.backends.contract import Backend, Pixels
from tests.export.triton.configs import parameters, read_config
from tests.export.trt.recorded_binding import RecordedBinding
from tests.patience import PATIENCE_S

INSPECTION = '{"Layers": [{"LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Row major FP16"}]}]}'


@pytest.fixture
def request_onnx(exported: ExportResult, tmp_path: Path) -> ExportRequest:
    """A request over an ONNX file in fp16 that was copied to another machine."""
    path = Path(shutil.copy(exported.onnx, tmp_path / "net.onnx"))
    return ExportRequest(path, tmp_path, "net", "fp16", parse_tile("32"), 2, "tensorrt_rtx")


def test_a_plan_is_built_next_to_the_file_that_it_names(request_onnx: ExportRequest, exported: ExportResult) -> None:
    made = build_from_onnx(request_onnx)
    sidecar = read_sidecar(made.plan)
    assert sidecar == made.sidecar
    assert (sidecar.onnx_file, sidecar.onnx_sha256) == ("net.onnx", sha256_of(request_onnx.checkpoint))
    assert sidecar.plan_sha256 == sha256_of(made.plan)
    assert sidecar.engine == dataclasses.replace(exported.info, tile=(32, 32), max_batch=2)
    assert sidecar.layers_by_precision["fp16"] > sidecar.layers_by_precision["fp32"]
    assert (sidecar.verification["engine"], sidecar.verification["required_psnr_db"]) == (None, 50)
    assert "Not run here: net.plan cannot run" in sidecar.verification["note"]
    assert sorted(os.listdir(request_onnx.folder)) == ["net.onnx", "net.plan", "net.plan.json"]
    assert build_from_onnx(request_onnx).plan_history.startswith("Kept net.plan")


def test_the_plan_of_the_export_itself_is_the_same_source(
    request_fp16: ExportRequest, exported: ExportResult, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported.onnx.parent, tmp_path / "copy"))
    before = (folder / "net.plan").stat().st_mtime_ns
    again = build_from_onnx(dataclasses.replace(request_fp16, checkpoint=folder / exported.onnx.name, folder=folder))
    assert again.plan_history.startswith("Kept net.plan")
    assert (folder / "net.plan").stat().st_mtime_ns != before


def test_it_needs_neither_torch_nor_onnx(request_onnx: ExportRequest) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'onnxruntime', 'safetensors.torch'): sys.modules[name] = None\n"
        "from drc_deploy.cli.main import main\n"
        f"main(['export', {str(request_onnx.checkpoint)!r}, '--trt', 'fp16', '--tile', '16', '--max-batch', '1'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "Built net.plan." in done.stdout
    assert "the plan is unverified" in done.stdout


@pytest.mark.parametrize("changes", [{"builder": None}, {"exact": True}])
def test_only_a_plan_can_be_asked_of_it(request_onnx: ExportRequest, changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="is exported already"):
        build_from_onnx(dataclasses.replace(request_onnx, **changes))  # type: ignore[arg-type]
    assert os.listdir(request_onnx.folder) == ["net.onnx"]


def test_the_tile_of_a_fixed_file_is_that_of_its_plan(request_onnx: ExportRequest) -> None:
    info = dataclasses.replace(read_exported_info(request_onnx.checkpoint), tile=(20, 28))
    _set_metadata(request_onnx.checkpoint, info.to_json())
    for text in ("32", "28x20", "dynamic"):
        with pytest.raises(UsageError, match="exported for tiles of 20x28"):
            build_from_onnx(dataclasses.replace(request_onnx, tile=parse_tile(text)))
    for tile in (DEFAULT_TILE, parse_tile("20x28")):
        assert plan_from_onnx._plan_tile(dataclasses.replace(request_onnx, tile=tile), info, Path("x")) == (20, 28)


def test_the_tile_of_a_plan_is_one_that_the_network_takes(request_onnx: ExportRequest) -> None:
    info = dataclasses.replace(read_exported_info(request_onnx.checkpoint), multiple_of=24)
    for tile, expected in ((DEFAULT_TILE, (144, 144)), (parse_tile("48x72"), (48, 72)), (parse_tile("dynamic"), None)):
        assert plan_from_onnx._plan_tile(dataclasses.replace(request_onnx, tile=tile), info, Path("x")) == expected
    with pytest.raises(UsageError, match="multiples of 24"):
        plan_from_onnx._plan_tile(request_onnx, info, Path("x"))


def _set_metadata(path: Path, text: str | None) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {} if text is None else {"drc_deploy": text})
    onnx.save(model, path)


def test_a_file_that_is_no_uint8_variant_is_refused(exported: ExportResult, tmp_path: Path) -> None:
    def copy(path: Path, name: str) -> Path:
        return Path(shutil.copy(path, tmp_path / name))

    with pytest.raises(ArtefactError, match="16-bit images"):
        read_exported_info(exported.float_onnx)
    with pytest.raises(ArtefactError, match="16-bit images"):
        read_exported_info(copy(exported.float_onnx, "renamed.onnx"))
    foreign = copy(exported.onnx, "foreign.onnx")
    _set_metadata(foreign, None)
    with pytest.raises(ArtefactError, match="of another program"):
        read_exported_info(foreign)
    _set_metadata(foreign, '{"schema": 1}')
    with pytest.raises(ArtefactError, match="lacks the metadata field"):
        read_exported_info(foreign)
    foreign.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ArtefactError, match="is not an ONNX file"):
        read_exported_info(foreign)


@pytest.mark.parametrize(
    ("version", "precision", "needed"),
    [("tensorrt-8.6.1", "fp16", "fp32"), ("tensorrt-10.3.0", "fp32", "fp32"), ("tensorrt-11.4.0", "fp16", None)],
)
def test_the_file_must_be_in_the_precision_that_the_library_reads(
    request_onnx: ExportRequest, monkeypatch: pytest.MonkeyPatch, version: str, precision: str, needed: str | None
) -> None:
    library = Library("tensorrt", RecordedBinding(version, kinds=("HALF",), inspection=INSPECTION))
    monkeypatch.setattr(PlanBuilder, "find", lambda choice, options: PlanBuilder(library, Gpu("Orin", "8.7", None)))
    monkeypatch.setattr(plan_export, "timing_cache_path", lambda library, gpu: None)
    request = dataclasses.replace(request_onnx, precision=precision)  # type: ignore[arg-type]
    if needed is None:
        assert build_from_onnx(request).plan.read_bytes() == b"plan"
        return
    with pytest.raises(
        ArtefactError, match=rf"is in fp16, and .* builds {precision} plans from graphs in {needed}"
    ) as e:
        build_from_onnx(request)
    assert f"--precision {needed}" in e.value.hint


def test_a_plan_of_tensorrt_becomes_a_model_for_triton(
    request_onnx: ExportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library("tensorrt", RecordedBinding("tensorrt-11.4.0", kinds=("HALF",), inspection=INSPECTION))
    monkeypatch.setattr(plan_export, "find_gpu", lambda: Gpu("Orin", "8.7", None))
    monkeypatch.setattr(plan_export, "find_library", lambda choice, gpu: library)
    monkeypatch.setattr(plan_export, "timing_cache_path", lambda library, gpu: None)
    model = request_onnx.folder / "models" / "net"
    made = build_from_onnx(dataclasses.replace(request_onnx, builder="auto", triton=ModelFolder(model)))
    assert made.triton == model
    assert (model / "1" / "model.plan").read_bytes() == made.plan.read_bytes()
    config = read_config(model)
    assert (config.platform, config.max_batch_size, list(config.input[0].dims)) == ("tensorrt_plan", 2, [32, 32, 3])
    assert parameters(config)["precision"] == "fp16"


def test_int8_for_onnx_runtime_is_refused(request_onnx: ExportRequest) -> None:
    model = onnx.load(request_onnx.checkpoint)
    info = dataclasses.replace(read_exported_info(request_onnx.checkpoint), precision="int8", int8_form="cpu")
    describe(model, info)
    onnx.save(model, request_onnx.checkpoint)
    with pytest.raises(ArtefactError, match="which TensorRT does not read"):
        build_from_onnx(dataclasses.replace(request_onnx, precision="int8"))


def test_an_old_plan_stays_where_the_new_one_fails(request_onnx: ExportRequest) -> None:
    (request_onnx.folder / "net.plan").write_text("old")
    model = onnx.load(request_onnx.checkpoint)
    model.graph.node[5].op_type = "Nonsense"
    onnx.save(model, request_onnx.checkpoint)
    with pytest.raises(ArtefactError, match="Plugin not found"):
        build_from_onnx(request_onnx)
    assert (request_onnx.folder / "net.plan").read_text() == "old"
    assert sorted(os.listdir(request_onnx.folder)) == ["net.onnx", "net.plan"]


def test_options_that_the_library_lacks_are_refused_before_the_build(request_onnx: ExportRequest) -> None:
    with pytest.raises(MissingDependencyError, match="only for its own version"):
        build_from_onnx(dataclasses.replace(request_onnx, options=PlanOptions(version_compatible=True)))
    assert os.listdir(request_onnx.folder) == ["net.onnx"]


class _Engine(Backend):
    """Stands for a plan of (24, 40) tiles."""

    device = "engine"

    def __init__(self, info: EngineInfo, compute: Callable[[Pixels], Pixels]) -> None:
        self._info, self._compute = dataclasses.replace(info, tile=(24, 40)), compute

    @property
    def info(self) -> EngineInfo:
        return self._info

    def run(self, batch: Pixels) -> Pixels:
        return self._compute(batch)

    def close(self) -> None:
        pass


def _check(exported: ExportResult, compute: Callable[[Pixels], Pixels], patch: pytest.MonkeyPatch) -> OnnxVerification:
    patch.setattr(onnx_check, "open_backend", lambda plan: _Engine(exported.info, compute))
    return verify_against_onnx(Path("x.plan"), exported.onnx, "fp16")


def _compute(exported: ExportResult) -> Callable[[Pixels], Pixels]:
    """Return what the ONNX file computes, by ONNX Runtime itself."""
    session = onnxruntime.InferenceSession(exported.onnx)
    return lambda batch: session.run(None, {"lr": batch})[0]


def test_an_engine_that_runs_is_compared_with_onnx_runtime(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _check(exported, _compute(exported), monkeypatch)
    assert found.engine is not None
    assert found.engine.psnr_db > 60
    assert found.note == ""


def test_an_engine_that_computes_something_else_is_refused(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = _compute(exported)
    with pytest.raises(VerificationError, match="differs from the ONNX file in ONNX Runtime: PSNR 4"):
        _check(exported, lambda batch: compute(batch) ^ 3, monkeypatch)


def test_without_onnx_runtime_the_results_must_be_images_all_the_same(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_check, "OnnxRuntimeBackend", _missing)
    found = _check(exported, lambda batch: batch.repeat(4, axis=1).repeat(4, axis=2), monkeypatch)
    assert (found.engine, found.note) == (None, "Run here, and compared with nothing: no onnxruntime.")
    with pytest.raises(VerificationError, match="2 of 2 results of the TensorRT engine are no images"):
        _check(exported, lambda batch: np.zeros((2, 96, 160, 3), np.uint8), monkeypatch)


def _missing(path: Path, *, cpu_only: bool) -> Backend:
    raise MissingDependencyError("no onnxruntime.")


def test_a_folder_that_cannot_be_written_is_a_sentence(request_onnx: ExportRequest) -> None:
    (request_onnx.folder / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        build_from_onnx(dataclasses.replace(request_onnx, folder=request_onnx.folder / "file" / "sub"))
